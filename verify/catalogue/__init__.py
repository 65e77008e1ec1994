"""The claims, one file for each file of theory."""
