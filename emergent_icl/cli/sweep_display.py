"""What `sweep` and `reproduce` print: the plan, the status, progress, failures, verdicts."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TimeElapsedColumn

from emergent_icl.cli.console import make_bar, say, say_error
from emergent_icl.cli.tables import NAME, NUMBER, TEXT, print_table
from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_tables import finding_rows
from emergent_icl.runs.progress import duration_text
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.estimate import JobTime
from emergent_icl.sweeps.execute.dry_run import HoursNeeded, Rehearsal
from emergent_icl.sweeps.execute.loop import Failure, Watcher, failure_of
from emergent_icl.sweeps.jobs import Job
from emergent_icl.sweeps.registration import REGISTERED, registered_text

# Seconds between two lines if output is not a terminal.
LINE_SECONDS = 60.0
# After its last step, a job still evaluates, saves, and draws.
ALMOST_DONE = 0.999
# State of a process or job that is over.
ENDED = "ended"


def print_plan(jobs: Sequence[Job], estimates: Mapping[str, JobTime], num_slots: int) -> None:
    """Prints a row for each job: its runs, steps, and remaining time."""
    rows, left = [], []
    for job in jobs:
        cost, done = estimates[job.name], fraction_done(job)
        left.append(cost.seconds * (1 - done))
        numbers = (str(job.num_runs), f"{cost.steps:,}", f"{1e3 * cost.step_seconds:.3g}")
        time_left = duration_text(left[-1]) if left[-1] else "-"
        rows.append((job.name, _state(job, done), *numbers, time_left))
    headers = dict.fromkeys(("runs", "steps", "ms per step", "time"), NUMBER)
    print_table("Plan", {"program": NAME, "state": NAME, **headers}, rows)
    wall = max(sum(left) / num_slots, *left, 0.0)  # No shorter than the longest job.
    say(
        f"{sum(job.num_runs for job in jobs)} runs in {len(jobs)} programs, "
        f"{duration_text(sum(left))} of computing left: about {duration_text(wall)} with "
        f"{num_slots} at a time. Steps were timed on this machine."
    )


def rehearsal_line(name: str, found: Rehearsal) -> str:
    """The result of a dry run in one line."""
    if found.failure:
        return f"failed    {name}  {found.failure}"
    return f"complete  {name}  {'  '.join(_rehearsal_cells(found))}"


def print_rehearsals(found: Mapping[str, Rehearsal], needed: Mapping[str, HoursNeeded]) -> None:
    """Prints a row for each kind of run, then the estimated time of each finding."""
    headers = dict.fromkeys(("per step", "peak memory", "launches"), NUMBER)
    rows = [(name, *_rehearsal_cells(one)) for name, one in found.items()]
    print_table("Dry run", {"run": NAME, **headers}, rows)
    times = [
        (name, f"{one.num_runs}", "unknown" if one.hours is None else f"{one.hours:,.1f}")
        for name, one in needed.items()
    ]
    columns = {"finding": NAME, "runs": NUMBER, "device-hours": NUMBER}
    print_table("Estimated time of all runs on one device like this one", columns, times)


def _rehearsal_cells(found: Rehearsal) -> tuple[str, str, str]:
    if found.step_seconds is None or found.peak_bytes is None or found.launch_seconds is None:
        return "failed", "-", "-"
    return (
        f"{1e3 * found.step_seconds:,.0f} ms",
        f"{found.peak_bytes / 1e9:.2f} GB",
        f"{found.launch_seconds:.0f} s",
    )


def print_status(jobs: Sequence[Job], state: Callable[[Workdir], str]) -> None:
    """Prints a row for each job: its progress, and the state of its process."""
    rows = []
    for job in jobs:
        own, done = state(job.workdir), fraction_done(job)
        # A job that is neither complete nor running has failed, if it ever started.
        is_over = not own or own.startswith(ENDED)
        failure = failure_of(job, own) if is_over and job.workdir.log.exists() else None
        said = failure.lines[-1] if failure and failure.lines else ""
        step, steps = last_step(job.workdir.metrics), job.config.training.num_steps
        rows.append((job.name, _state(job, done), own or "-", f"{step:,}/{steps:,}", said))
    names = dict.fromkeys(("program", "state", "process or job"), NAME)
    print_table("Status", {**names, "step": NUMBER, "last line of log": TEXT}, rows)
    say(f"{sum(job.is_complete() for job in jobs)} of {len(jobs)} programs are complete.")


def fraction_done(job: Job) -> float:
    """In [0, 1], by the last line of metrics; 1 only if the job is complete."""
    if job.is_complete():
        return 1.0
    done = last_step(job.workdir.metrics) / job.config.training.num_steps
    return min(done, ALMOST_DONE)


def _state(job: Job, done: float) -> str:
    if done == 1:
        return "complete"
    if job.waits_for:
        return "waits for its search"
    return f"{done:.0%} done" if done else "to run"


class SweepDisplay(Watcher):
    """Prints a line whenever a job starts or ends, and the progress of all, with the time left.

    `bar` must be entered before the first job starts.
    """

    def __init__(self, jobs: Sequence[Job], num_slots: int) -> None:
        # Jobs are weighted by the steps of all of their runs.
        self._weights = {job.name: job.num_runs * job.config.training.num_steps for job in jobs}
        self._done = {job.name: fraction_done(job) for job in jobs}
        self._started = self._last_line = time.monotonic()
        self._all, self._first = max(sum(self._weights.values()), 1), self._work_done()
        share = "{task.percentage:>3.0f}%"
        self.bar = make_bar("all runs", BarColumn(), share, TimeElapsedColumn())
        self._task = self.bar.add_task("", total=self._all)
        runs = sum(job.num_runs for job in jobs)
        counts = f"{len(jobs)} programs of {runs} runs, {self._num_complete()} complete"
        say(f"{counts}; {num_slots} at a time")

    def started(self, job: Job) -> None:
        """See Watcher."""
        say(f"started   {job.name}")

    def waits(self, failure: Failure) -> None:
        """See Watcher."""
        say(f"waits     {failure.job.name}  ({', '.join(failure.lines)})")

    def ended(self, job: Job, failure: Failure | None) -> None:
        """See Watcher."""
        self._done[job.name] = fraction_done(job)
        if failure is None:
            say(f"complete  {job.name}  {self._progress()}")
        else:
            say(f"failed    {job.name}  ({failure.how}); others continue")

    def polled(self, running: Sequence[Job]) -> None:
        """See Watcher."""
        self._done |= {job.name: fraction_done(job) for job in running}
        self.bar.update(self._task, completed=self._work_done(), description=self._progress())
        now = time.monotonic()
        if self.bar.disable and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            names = ", ".join(f"{job.name} {self._done[job.name]:.0%}" for job in running)
            say(f"running   {self._progress()}  ({names or 'only other commands'})")

    def _work_done(self) -> float:
        return sum(weight * self._done[name] for name, weight in self._weights.items())

    def _num_complete(self) -> int:
        return sum(done == 1 for done in self._done.values())

    def _progress(self) -> str:
        text = f"{self._num_complete()}/{len(self._done)} programs"
        done, passed = self._work_done() - self._first, time.monotonic() - self._started
        left = self._all - self._work_done()
        is_known = done > 0 and left > 0
        return f"{text}, {duration_text(left * passed / done)} left" if is_known else text


def print_registration(made: Mapping[str, Any], path: Path) -> None:
    """Prints what was registered, and in which file."""
    for name, sweep in made["sweeps"].items():
        counts = f"{len(sweep['conditions'])} conditions, {data.seeds_text(sweep['seeds'])}"
        say(f"{name}: {sweep['claim']['text']} ({counts})")
    say(f"{registered_text(made)}: {path}. Commit a copy before the first run.")


def print_unregistered(found: Mapping[str, Any]) -> None:
    """Prints what a registration lacks, while that can still be changed."""
    marks = found["status"].items()
    if said := {name: mark for name, mark in marks if not mark.startswith(REGISTERED)}:
        say(f"Claims: {data.by_text(said)}")
    if found.get("is_committed") is False:
        say("The registration is not committed: commit a copy before the first run.")


def print_failures(failures: Sequence[Failure]) -> None:
    """Prints how jobs failed, with the ends of their logs."""
    for failure in failures:
        say_error(f"{failure.job.name} failed ({failure.how}):")
        say("\n".join(f"  {line}" for line in failure.lines) + f"\n  ({failure.job.workdir.log})")


def print_verdicts(results: Mapping[str, Any]) -> None:
    """Prints a row for each finding, followed by one for each check."""
    rows = []
    for finding in finding_rows(results):
        rows.append((finding.name, finding.verdict, finding.claim))
        for one in finding.checks:
            rows.append(("", f"  {one.sign} {one.outcome}", f"{one.check}: {one.said}"))
        rows += [("", "", text) for text in (finding.family, finding.registration) if text]
    columns = {"finding": NAME, "verdict": NAME, "claim and measurements": TEXT}
    if results["verdicts"]:
        say(data.family_text(results["verdicts"]))
        print_table("Verdicts", columns, rows, is_grouped=True)
    for name, sweep in results["sweeps"].items():
        for condition, search in (sweep["search"] or {}).items():
            if search["chosen"] is None:
                say(f"{name}/{condition}: no runs, because all draws of the search diverged")
