"""Runs: the training loop, checkpoints, records, and work directories."""
