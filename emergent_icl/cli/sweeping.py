"""What `sweep` and `reproduce` share: flags, and everything from sweeps to an exit code."""

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from emergent_icl.cli import console, sweep_display
from emergent_icl.cli.flags import EXTENSIONS, parsed, workdir_flag
from emergent_icl.cli.signals import STOP_SIGNALS
from emergent_icl.plots.report import report_page
from emergent_icl.plots.sweep_data import context_text
from emergent_icl.plots.sweep_figures import finding_figure, save, summary_figure
from emergent_icl.runs.locks import is_locked
from emergent_icl.runs.workdir import Workdir, write_whole
from emergent_icl.sweeps import registration
from emergent_icl.sweeps.estimate import estimate
from emergent_icl.sweeps.execute import dry_run
from emergent_icl.sweeps.execute.local import LocalProcesses, machine_slots
from emergent_icl.sweeps.execute.loop import Place, PlaceError, Stopped, run_jobs
from emergent_icl.sweeps.jobs import Job, check_root, distinct, make_jobs
from emergent_icl.sweeps.recorded_data import check_moved_data
from emergent_icl.sweeps.results import collect, results_text
from emergent_icl.sweeps.spec import Sweep, SweepError

RESULTS = "results.json"

_WORKDIR = workdir_flag()
_count = functools.partial(flags.DEFINE_integer, lower_bound=0)
_positive = functools.partial(flags.DEFINE_integer, lower_bound=1)
_SEEDS = _count("seeds", 0, "Replicates of each condition; 0: the sweep's own number.")
_WORKERS = _count("workers", 0, "Programs at a time; 0: one per GPU, otherwise one per core.")
_RUNS = _count(
    "runs_per_program", 0, "Runs per program; 0: all of a condition, or of its search. Sweeps that "
    "train their conditions together always have one program per seed.",
)  # fmt: skip
_PLAN = flags.DEFINE_boolean("plan", False, "Print every program with its estimated time and exit.")
_STATUS = flags.DEFINE_boolean("status", False, "Print the state of every program and exit.")
_REGISTER = flags.DEFINE_boolean(
    "register", False, f"Write claims, settings, and seeds to {registration.FILE} and exit."
)
_EXECUTOR = flags.DEFINE_enum(
    "executor", "local", ["local", "slurm"], "Run programs on this machine or as SLURM jobs."
)
_RETRY = flags.DEFINE_boolean(
    "retry_failed", False, "Resubmit failed SLURM jobs; local programs are always retried."
)
# What each SLURM job requests, see Request.
_REQUEST = {
    "partition": flags.DEFINE_string("partition", "", "SLURM: partition of each job."),
    "minutes": _positive(
        "minutes", 240, "SLURM: time limit, after which a job is requeued and resumes."
    ),
    "gpus": _count("gpus", 0, "SLURM: GPUs per job."),
    "cpus": _positive("cpus", 1, "SLURM: CPU cores per job."),
    "memory_gb": flags.DEFINE_float(
        "memory_gb", 0.0, "SLURM: memory per job in GB; 0: the cluster's default.", lower_bound=0
    ),
    "grace_seconds": _positive(
        "grace", 90, "SLURM: a job saves this many seconds before its limit."
    ),
}
flags.register_validator(
    _REQUEST["memory_gb"].name, lambda given: math.isfinite(given), "must be finite"
)
_DRY_RUN = flags.DEFINE_boolean(
    "dry_run", False, "Take a few steps of every kind of run, save, resume, and evaluate it below "
    "DIR/dry_run; print times and memory and exit.",
)  # fmt: skip
flags.mark_bool_flags_as_mutual_exclusive(["plan", "status", "register", "dry_run"])
# absl's help adds that it may be repeated.
_SET = flags.DEFINE_multi_string(
    "set", [], "OPTION=VALUE for the config that all conditions start from"
)


def launch(
    argv: Sequence[str], find_sweeps: Callable[[], Sequence[Sweep]], preset: str | None = None
) -> None:
    """Runs, judges, and draws; exits with 1 if a program failed, 128 + n if stopped by signal n.

    Errors are reported before anything is written. `find_sweeps` may raise SweepError; `preset` is
    the common preset of the sweeps, if any.
    """
    with console.command(argv, SweepError, PlaceError):
        root, changes = Workdir(_WORKDIR.value).path, _changes(_SET.value)
        sweeps = _changed(find_sweeps(), changes)
        if _SEEDS.value:
            sweeps = [sweep.with_replicates(_SEEDS.value) for sweep in sweeps]
        sweeps, kept = registration.as_registered(sweeps, root)
        for path, value in kept.items():
            console.say(f"as registered, before this option existed: {path} = {value!r}")
        names = [sweep.name for sweep in sweeps]
        for sweep in sweeps:
            if names.count(sweep.name) > 1:
                raise SweepError(f"two sweeps are named '{sweep.name}'")
            sweep.check()
        check_root(root)
        if _REGISTER.value:
            made = registration.register(sweeps, root)
            sweep_display.print_registration(made, root / registration.FILE)
        elif _STATUS.value:
            jobs = distinct(make_jobs(sweeps, root, _RUNS.value))
            sweep_display.print_status(jobs, _job_states())
        elif _DRY_RUN.value:
            _rehearse(sweeps, root / "dry_run")
        else:
            _run(sweeps, root, {"preset": preset, "changes": changes})


def _run(sweeps: Sequence[Sweep], root: Path, about: Mapping[str, Any]) -> None:
    """Prints the plan, or runs, judges, and draws."""

    def find_jobs() -> list[Job]:
        return distinct(make_jobs(sweeps, root, _RUNS.value))

    jobs = find_jobs()
    for job in jobs:
        # The runs of a job that waits for a search are not yet known.
        if not job.waits_for:
            job.check()
    check_moved_data(jobs)
    if _PLAN.value:
        slots = machine_slots(_WORKERS.value)
        # Steps are timed as a job will run: on the cores of one slot.
        if slots[0].cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, slots[0].cores)
        sweep_display.print_plan(jobs, estimate(jobs), len(slots))
        return
    place, at_once = _place(root)
    Workdir(root).make()  # Fails once, not for every program.
    sweep_display.print_unregistered(registration.status(sweeps, root))
    display, stop = sweep_display.SweepDisplay(jobs, at_once), None
    try:
        with display.bar:
            failures = run_jobs(find_jobs, place, display, STOP_SIGNALS.poll)
    except Stopped as error:
        stop, failures = error, error.failures
    try:
        judge_and_draw(sweeps, root, about)
    finally:
        sweep_display.print_failures(failures)
        if stop:
            console.say(f"{stop.said} To resume:\n  {console.command_line()}")
    if stop:
        sys.exit(128 + stop.signal)
    if failures:
        retry = "" if _EXECUTOR.value == "local" or _RETRY.value else " --retry_failed"
        console.say(f"To retry failed programs:\n  {console.command_line()}{retry}")
        sys.exit(1)


def _rehearse(sweeps: Sequence[Sweep], root: Path) -> None:
    """Runs a few steps of every kind of run, and prints what all of them will take."""
    jobs = dry_run.kinds_of_jobs(sweeps, root)
    count = len({job.name for job in jobs.values()})
    console.say(f"{count} kinds of runs, {dry_run.ALL_CALLS} calls of the step each")
    found = {}
    try:
        for name, one in dry_run.dry_run(jobs, root, _command, STOP_SIGNALS.poll):
            found[name] = one
            console.say(sweep_display.rehearsal_line(name, one))
    except Stopped as error:
        console.say(f"{error.said} To resume:\n  {console.command_line()}")
        sys.exit(128 + error.signal)
    hours = dry_run.hours_by_finding(sweeps, root, found)
    sweep_display.print_rehearsals(found, hours)
    if any(one.failure for one in found.values()):
        sys.exit(1)


def judge_and_draw(sweeps: Sequence[Sweep], root: Path, about: Mapping[str, Any]) -> None:
    """Prints the verdicts on existing runs; writes results.json, figures/, and report.html."""
    about = {**about, "registration": registration.status(sweeps, root)}
    # As read from the file: with lists instead of tuples.
    results = json.loads(json.dumps(collect(sweeps, root, about)))
    with console.printing():
        sweep_display.print_verdicts(results)
    numbers, figures, report = (root / name for name in (RESULTS, "figures", "report.html"))

    def draw() -> None:
        for name, sweep in results["sweeps"].items():
            verdict = results["verdicts"].get(name)
            save(finding_figure(name, sweep, verdict, context_text(results)), figures / name)
        save(summary_figure(results), figures / "summary")

    console.write(numbers, lambda: write_whole(numbers, results_text(results) + "\n"))
    console.write(figures, draw)
    console.write(report, lambda: write_whole(report, report_page(results, figures)))


def _command(workdir: Workdir) -> list[str]:
    """The command that trains in a work directory, from the config stored there."""
    further = [f"--extensions={','.join(EXTENSIONS.value)}"] if EXTENSIONS.value else []
    words = ("-m", "emergent_icl", "train", f"--workdir={workdir.path}")
    return [sys.executable, *words, *further]


def _place(root: Path) -> tuple[Place, int]:
    """Where jobs run, and how many at a time."""
    if _EXECUTOR.value == "local":
        slots = machine_slots(_WORKERS.value)
        return LocalProcesses(slots, _command), len(slots)
    slurm = _slurm()
    request = slurm.Request(**{name: flag.value for name, flag in _REQUEST.items()})
    request = request._replace(at_once=_WORKERS.value or request.at_once)
    return slurm.SlurmJobs(root, request, _command, _RETRY.value), request.at_once


def _slurm() -> ModuleType:
    # submitit is an optional dependency.
    try:
        from emergent_icl.sweeps.execute import slurm
    except ImportError as error:
        raise PlaceError(
            f"--executor=slurm needs submitit ({error}): pip install 'emergent-icl[slurm]'"
        ) from error
    return slurm


def _job_states() -> Callable[[Workdir], str]:
    """A function: work directory -> state of its process or job, '' if there is none."""
    if _EXECUTOR.value == "local":
        return lambda workdir: "running" if is_locked(workdir.log) else ""
    slurm = _slurm()
    alive = slurm.queued_jobs()

    def state(workdir: Workdir) -> str:
        job = slurm.submission_of(workdir)
        return f"{alive.get(job.id, sweep_display.ENDED).lower()} (job {job.id})" if job else ""

    return state


def _changed(sweeps: Sequence[Sweep], changes: Mapping[str, Any]) -> list[Sweep]:
    """The sweeps with options set in their bases; raises SweepError if one has no effect."""
    set_by = [
        {*one.overrides, *(sweep.search.space if sweep.search else ())}
        for sweep in sweeps
        for one in sweep.conditions
    ]
    for path in changes:
        if set_by and all(path in own for own in set_by):
            raise SweepError(
                f"--set={path} has no effect: every condition, or its search, sets this option"
            )
    return [sweep.with_base_options(changes) for sweep in sweeps]


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """Options of --set, parsed as --config.OPTION=VALUE is."""
    changes = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise SweepError(f"--set={word} must be OPTION=VALUE")
        changes[path] = parsed(path, text)
    return changes
