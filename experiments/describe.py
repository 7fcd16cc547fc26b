"""Show what a config means and what it costs, before anything runs."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("describe")
