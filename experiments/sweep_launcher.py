"""What the launchers of sweeps share: their flags, and the way from sweeps to an exit code."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from emergent_icl.sweeps.sweep import FIRST_TUNING_SEED, Sweep, SweepError
from experiments import campaign, console
from experiments.common_flags import WORKDIR
from experiments.executor import Stopped
from experiments.extensions import EXTENSIONS
from experiments.slots import machine_slots
from experiments.sweep_display import print_failures

_SEEDS = flags.DEFINE_integer(
    "seeds", 5, "Runs of each condition, seeds 0 and up.", lower_bound=1,
    upper_bound=FIRST_TUNING_SEED,
)  # fmt: skip
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Programs at a time; 0: one for each GPU, else for each core.", lower_bound=0
)
_RUNS = flags.DEFINE_integer(
    "runs_per_program", 0, "Seeds that one program trains together; 0: all of a condition.",
    lower_bound=0,
)  # fmt: skip
_PLAN = flags.DEFINE_boolean("plan", False, "Print every run with its estimated time, and stop.")
_SET = flags.DEFINE_multi_string(
    "set", [], "option=value of the config that all conditions start from; may be repeated."
)


def launch(
    sweeps: Sequence[Sweep],
    about: Mapping[str, Any],
    stop_requested: Callable[[], signal.Signals | None],
) -> None:
    """Runs, judges and draws; exits with 1 if a program failed, 128 + n if stopped by signal n.

    Args:
      sweeps: to run together.
      about: what else stands in results.json.
      stop_requested: polled; a signal to stop for, or None.

    Raises:
      SweepError: a sweep cannot be run; nothing was touched.
      WorkdirError: a folder holds other runs; nothing was touched.
    """
    campaign.check_names(sweeps)
    changes = _changes(_SET.value)
    sweeps = [sweep.with_base_options(changes) for sweep in sweeps]
    for sweep in sweeps:
        sweep.check()
    seeds = tuple(range(_SEEDS.value))
    together = _RUNS.value or len(seeds)
    about = {**about, "changes": changes}
    whole = campaign.Campaign(tuple(sweeps), seeds, Path(WORKDIR.value), together, about)
    slots = machine_slots(_WORKERS.value)
    if _PLAN.value:
        campaign.show_plan(whole, slots)
        return
    extensions = [f"--extensions={','.join(EXTENSIONS.value)}"] if EXTENSIONS.value else []
    try:
        _, failures = campaign.run(whole, slots, stop_requested, extensions)
    except Stopped as stop:
        print_failures(stop.failures)
        but = f" but {', '.join(stop.unsaved)}, killed after their time" if stop.unsaved else ""
        console.say(f"Stopped; every run is saved{but}. To go on:\n  {console.command_line()}")
        sys.exit(128 + stop.signal)
    print_failures(failures)
    if failures:
        console.say(f"To try again what failed:\n  {console.command_line()}")
        sys.exit(1)


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """Values are Python literals; what is none is a string."""
    changes: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise SweepError(f"--set={word} must be option=value")
        try:
            changes[path] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            changes[path] = text
    return changes
