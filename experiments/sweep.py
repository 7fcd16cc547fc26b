"""Run all missing experiments of a sweep, then compute the verdict and the report."""

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch("sweep")
