"""Train or resume a run."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("train")
