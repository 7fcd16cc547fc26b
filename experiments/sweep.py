"""Runs a sweep, the paper's or your own: what is missing of it, then the verdict and the report.

python -m experiments.sweep --sweep=FILE[:preset] --workdir=DIR [--seeds=5] [--plan]

Several files, with commas, are run together. Ctrl-C and SIGTERM save every run; the same command
goes on.
"""

from __future__ import annotations

from experiments.signals import StopSignals

STOP_SIGNALS = StopSignals()
if __name__ == "__main__":
    STOP_SIGNALS.install()

from collections.abc import Sequence  # noqa: E402

from absl import app, flags  # noqa: E402

from emergent_icl.sweeps.sweep import SweepError, load_sweep  # noqa: E402
from experiments import console, sweep_launcher  # noqa: E402
from experiments.executor import PlaceError  # noqa: E402

_SWEEP = flags.DEFINE_list("sweep", None, "FILE[:preset] of the sweep, or several.", required=True)


def main(argv: Sequence[str]) -> None:
    """Parses nothing itself: sweeps in, exit code out."""
    console.refuse_leftovers(argv)
    with console.clear_errors(SweepError, PlaceError):
        sweeps = [load_sweep(where) for where in _SWEEP.value]
        sweep_launcher.launch(sweeps, {"preset": None}, STOP_SIGNALS.poll)


if __name__ == "__main__":
    app.run(main, flags_parser=console.parse_flags)
