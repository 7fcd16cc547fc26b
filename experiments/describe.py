"""Says what a config means before it costs anything."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("describe")
