"""Show what a config trains and evaluates on: sequences, class frequencies, burst statistics."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("inspect_data")
