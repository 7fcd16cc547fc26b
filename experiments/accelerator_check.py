"""Measure a machine with one accelerator within some minutes."""

from emergent_icl.cli import start

if __name__ == "__main__":
    start.restart_with_huge_pages()
    start.run("benchmarks.accelerator", "python -m experiments.accelerator_check")
