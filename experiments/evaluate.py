"""Evaluate a trained run in every mode, with 95% intervals."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("evaluate")
