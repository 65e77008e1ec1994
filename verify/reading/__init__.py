"""Readers of torch modules: one file a family, each from modules to the nodes of theory/."""
