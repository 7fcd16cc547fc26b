"""Reproduces every finding of the paper: runs what is missing, then judges and draws."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("reproduce")
