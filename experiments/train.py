"""Trains a run, or goes on with one."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("train")
