"""Compares runs: their learning curves, their ends, and the options that differ."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("compare")
