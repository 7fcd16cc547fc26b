"""python -m benchmarks: see run.py."""

from emergent_icl.cli import start

if __name__ == "__main__":
    start.restart_with_huge_pages()
    start.run("benchmarks.run", "python -m benchmarks")
