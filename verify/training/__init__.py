"""Small language models, trained on CPU: how the parameter norm grows, and what saturates.

`python -m asymptest.verify.training --profile smoke --out DIR` trains the models of a
profile and writes one JSON file a run. Source of the questions: Merrill, Ramanujan,
Goldberg, Schwartz, Smith (2021), "Effects of Parameter Norm Growth During Transformer
Training: Inductive Bias from Gradient Descent", arXiv 2010.09697.
"""
