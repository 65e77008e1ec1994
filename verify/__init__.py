"""Finite networks, decisions and claims."""
