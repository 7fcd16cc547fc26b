"""What the launchers of sweeps share: their flags, and the way from sweeps to an exit code."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from emergent_icl.cli import campaign, console
from emergent_icl.cli.flags import EXTENSIONS, workdir_flag
from emergent_icl.cli.sweep_display import ENDED, print_failures
from emergent_icl.runs.locks import is_locked
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.execute.local import LocalProcesses
from emergent_icl.sweeps.execute.loop import Place, PlaceError, Stopped
from emergent_icl.sweeps.execute.slots import machine_slots
from emergent_icl.sweeps.spec import FIRST_TUNING_SEED, Sweep, SweepError

_WORKDIR = workdir_flag()
_SEEDS = flags.DEFINE_integer(
    "seeds", 5, "Runs of each condition, seeds 0 and up.", lower_bound=1,
    upper_bound=FIRST_TUNING_SEED,
)  # fmt: skip
_WORKERS = flags.DEFINE_integer(
    "workers",
    0,
    "Programs at a time; 0: one for each GPU, else for each core.",
    lower_bound=0,
)
_RUNS = flags.DEFINE_integer(
    "runs_per_program", 0, "Seeds that one program trains together; 0: all of a condition.",
    lower_bound=0,
)  # fmt: skip
_PLAN = flags.DEFINE_boolean("plan", False, "Print every run with its estimated time, and stop.")
_STATUS = flags.DEFINE_boolean("status", False, "Print what became of every program, and stop.")
_EXECUTOR = flags.DEFINE_enum(
    "executor", "local", ["local", "slurm"], "Processes of this machine, or jobs of SLURM."
)
_RETRY = flags.DEFINE_boolean(
    "retry_failed", False, "Submit anew what failed under SLURM; on this machine it always is."
)
_PARTITION = flags.DEFINE_string("partition", "", "Of SLURM, for each job.")
_MINUTES = flags.DEFINE_integer(
    "minutes", 240, "Time of a job, after which it is requeued and goes on.", lower_bound=1
)
_GPUS = flags.DEFINE_integer("gpus", 0, "Of each job.", lower_bound=0)
_CPUS = flags.DEFINE_integer("cpus", 1, "Cores of each job.", lower_bound=1)
_MEMORY = flags.DEFINE_float("memory_gb", 0.0, "Of each job; 0: the cluster's own.", lower_bound=0)
_GRACE = flags.DEFINE_integer(
    "grace", 90, "Seconds before its end in which a job saves.", lower_bound=1
)
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
    whole = campaign.Campaign(tuple(sweeps), seeds, Path(_WORKDIR.value), together, about)
    if _PLAN.value:
        campaign.show_plan(whole, machine_slots(_WORKERS.value))
        return
    if _STATUS.value:
        campaign.show_status(whole, _job_states())
        return
    place, at_once = _place(whole.root)
    try:
        _, failures = campaign.run(whole, place, at_once, stop_requested)
    except Stopped as stop:
        print_failures(stop.failures)
        console.say(f"{stop.said} To go on:\n  {console.command_line()}")
        sys.exit(128 + stop.signal)
    print_failures(failures)
    if failures:
        retry = "" if _EXECUTOR.value == "local" or _RETRY.value else " --retry_failed"
        console.say(f"To try again what failed:\n  {console.command_line()}{retry}")
        sys.exit(1)


def _place(root: Path) -> tuple[Place, int]:
    """Where programs run, and how many at a time, as the flags say."""
    further = [f"--extensions={','.join(EXTENSIONS.value)}"] if EXTENSIONS.value else []
    if _EXECUTOR.value == "local":
        slots = machine_slots(_WORKERS.value)
        return LocalProcesses(slots, further), len(slots)
    slurm = _slurm()
    request = slurm.Request(
        partition=_PARTITION.value,
        minutes=_MINUTES.value,
        gpus=_GPUS.value,
        cpus=_CPUS.value,
        memory_gb=_MEMORY.value,
        at_once=_WORKERS.value or slurm.Request().at_once,
        grace_seconds=_GRACE.value,
    )
    jobs = slurm.SlurmJobs(root, request, further, _RETRY.value)
    return jobs, request.at_once


def _slurm() -> ModuleType:
    # Only here, so that nobody else needs submitit.
    try:
        from emergent_icl.sweeps.execute import slurm
    except ImportError as error:
        raise PlaceError(
            f"--executor=slurm needs submitit ({error}): pip install 'emergent-icl[slurm]'"
        ) from error
    return slurm


def _job_states() -> Callable[[Workdir], str]:
    """What the scheduler says of a program's job; '' where there is none."""
    if _EXECUTOR.value == "local":
        return lambda workdir: "running" if is_locked(workdir.log) else ""
    slurm = _slurm()
    alive = slurm.queued_jobs()

    def state(workdir: Workdir) -> str:
        job = slurm.job_of(workdir)
        return f"{alive.get(job.id, ENDED).lower()} (job {job.id})" if job else ""

    return state


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
