"""Wick calculus: exact expectations of products of random matrices.

tensors.py holds the algebra (indices, factors, terms), laws.py says what a random matrix
is and pairs its entries, expectation.py takes expectations and contracts the deltas, and
matrices.py reads a result back as a matrix product.
"""
