"""Trains a run, or goes on with one.

python -m experiments.train --config=FILE[:preset] --workdir=DIR [--config.x.y=z ...]

Ctrl-C and SIGTERM save the run; the same command resumes it.

Several processes train one run together under `srun` or `mpirun`, on a TPU pod, or with
    --coordinator_address=HOST:PORT --num_processes=N --process_id=0 (... to N - 1)
"""

from __future__ import annotations

import time

from experiments import huge_pages
from experiments.signals import StopSignals

# Before the heavy imports: a user waits for them too, and may interrupt them.
if __name__ == "__main__":
    huge_pages.restart()
STARTED = time.monotonic()
STOP_SIGNALS = StopSignals()
if __name__ == "__main__":
    STOP_SIGNALS.install()

import contextlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402

from absl import app, flags  # noqa: E402

from emergent_icl.training import loop  # noqa: E402
from emergent_icl.training.processes import is_primary  # noqa: E402
from emergent_icl.training.reporting import Observer  # noqa: E402
from emergent_icl.workdir import Workdir  # noqa: E402
from experiments import cluster, console, jax_settings, tables  # noqa: E402
from experiments.common_flags import WORKDIR  # noqa: E402
from experiments.config_flag import CONFIG  # noqa: E402

flags.mark_flag_as_required("config")

SAVED = "\nWhat was saved stands; the same command goes on from there."


def main(argv: Sequence[str]) -> None:
    """Parses nothing itself: config in, exit code out."""
    console.refuse_leftovers(argv)
    jax_settings.use_compilation_cache()
    jax_settings.make_deterministic(CONFIG.value)
    with console.clear_errors(cluster.ClusterError, advice=SAVED), cluster.joined():
        _train(Workdir(WORKDIR.value))


def _train(workdir: Workdir) -> None:
    # One process speaks for all.
    display = console.TrainingDisplay(STARTED) if is_primary() else Observer()
    with contextlib.closing(display):
        try:
            outcome = loop.train(CONFIG.value, workdir, display, STOP_SIGNALS.poll, STARTED)
        except loop.Interrupted as stop:
            display.close()
            if is_primary():
                console.say_stopped(stop.step)
            sys.exit(128 + stop.signal)
    if is_primary():
        _say_outcome(outcome, workdir)


def _say_outcome(outcome: loop.Outcome, workdir: Workdir) -> None:
    if outcome.was_complete:
        console.say(
            f"The run in {workdir.path} is complete: {outcome.summary['step']} steps. "
            f"Nothing was changed.\n"
            f"To start anew: another --workdir, or remove that folder. "
            f"To train longer: a larger --config.training.num_steps."
        )
    tables.print_summary(outcome.summary)
    console.say(f"Figure: {workdir.learning_curves}")


if __name__ == "__main__":
    app.run(main, flags_parser=console.parse_flags)
