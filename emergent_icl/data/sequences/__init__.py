"""Sampling of sequences of examples and labels."""
