"""Runs a sweep, the paper's or your own: what is missing of it, then the verdict and the report.

python -m experiments.sweep --sweep=FILE[:preset] --workdir=DIR [--seeds=5]
    [--register | --plan | --status]

--register writes down what is claimed, before any run. Several files, with commas, are run
together. Ctrl-C and SIGTERM save every run; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from emergent_icl.cli import sweeping
from emergent_icl.sweeps.spec import load_sweep

_SWEEP = flags.DEFINE_list("sweep", None, "FILE[:preset] of the sweep, or several.", required=True)


def main(argv: Sequence[str]) -> None:
    """Sweeps in, exit code out."""
    sweeping.launch(argv, lambda: [load_sweep(where) for where in _SWEEP.value])
