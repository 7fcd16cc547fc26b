"""Runs in time and on disk: training to the end, checkpoints, work directories."""
