"""Run a sweep, one of the paper's or your own, and judge its claim.

python -m experiments.sweep --sweep=NAME[:preset] --workdir=DIR [--seeds=5]
    [--register | --plan | --dry-run | --status]

All missing runs are trained. --register records the claim before any run. Several sweeps,
comma-separated, run together. Ctrl-C and SIGTERM save every run; rerun the command to resume.
"""

from collections.abc import Sequence

from absl import flags

from emergent_icl import findings
from emergent_icl.cli import sweeping
from emergent_icl.sweeps.spec import load_sweep

_SWEEP = flags.DEFINE_list(
    "sweep",
    None,
    "NAME[:preset] of a finding or of 'map', or your own FILE.py[:preset]; comma-separated.",
    required=True,
)


def main(argv: Sequence[str]) -> None:
    """Runs the sweeps."""
    named = (findings.__name__, (*findings.FINDINGS, *findings.EXAMPLES))
    sweeping.launch(argv, lambda: [load_sweep(where, *named) for where in _SWEEP.value])
