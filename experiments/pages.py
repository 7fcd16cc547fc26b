"""Renews what pages say of a reproduction, from its results.json."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("pages")
