"""Runs a sweep, the paper's or your own: what is missing of it, then the verdict and the report."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("sweep")
