"""Reproduce every finding of the paper: run all missing experiments, judge, and draw."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("reproduce")
