"""Commands: the only package that prints."""
