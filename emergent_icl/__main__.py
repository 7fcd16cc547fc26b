"""python -m emergent_icl COMMAND [--flag=value ...]: the commands of emergent_icl/cli."""

import sys

from emergent_icl.cli.start import launch

if __name__ == "__main__":
    launch(sys.argv.pop(1) if len(sys.argv) > 1 else "", "emergent_icl ")
