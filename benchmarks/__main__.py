"""python -m benchmarks: see run.py."""

from emergent_icl.cli import huge_pages, start

if __name__ == "__main__":
    huge_pages.restart()
    start.run("benchmarks.run")
