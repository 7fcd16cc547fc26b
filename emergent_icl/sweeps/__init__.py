"""Sweeps: conditions x seeds, a claim about them that can fail, and the verdict."""
