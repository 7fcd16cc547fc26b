"""Inspect a trained run: its predictions at every example, and its attention."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("inspect_run")
