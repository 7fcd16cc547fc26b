"""Pack a run into one file, to resume or open it elsewhere."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("pack")
