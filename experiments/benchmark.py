"""Time this library against the approach of the reference implementation."""

from emergent_icl.cli import start

if __name__ == "__main__":
    start.restart_with_huge_pages()
    start.run("benchmarks.run", "python -m experiments.benchmark")
