"""Compare runs: learning curves, final accuracies, and differing options."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("compare")
