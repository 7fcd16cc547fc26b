"""python -m emergent_icl COMMAND [--flag=value ...]: the commands of emergent_icl/cli."""

from emergent_icl.cli.start import dispatch

if __name__ == "__main__":
    dispatch("python -m emergent_icl")
