"""Looks into a trained run: its predictions at every example, and where its attention goes."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("inspect_run")
