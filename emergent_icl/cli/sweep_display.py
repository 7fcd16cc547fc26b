"""What `experiments.sweep` and `experiments.reproduce` print: the plan, progress, verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from emergent_icl.cli import console, progress, tables
from emergent_icl.plots.style import duration_text
from emergent_icl.plots.sweep_tables import finding_rows
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.estimate import JobTime
from emergent_icl.sweeps.execute.loop import Failure, Watcher
from emergent_icl.sweeps.jobs import Job

# Where output is no terminal: a line this often.
LINE_SECONDS = 60.0
# After its last step a job still evaluates, saves and draws.
ALMOST_DONE = 0.999
# What is said of a process, or job, that is over.
ENDED = "ended"


def print_plan(jobs: Sequence[Job], estimates: Mapping[str, JobTime], num_slots: int) -> None:
    """Prints a row a job: its runs, steps, and the time that it still takes."""
    table = Table(title="Plan", title_justify="left")
    for heading in ("program", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("runs", "steps", "ms a step", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    left = {}
    for one in jobs:
        cost, done = estimates[one.name], fraction_done(one)
        left[one.name] = cost.seconds * (1 - done)
        time_left = duration_text(left[one.name]) if left[one.name] else "-"
        table.add_row(
            escape(one.name), _state(one, done), str(one.num_runs), f"{cost.steps:,}",
            f"{1e3 * cost.step_seconds:.3g}", time_left,
        )  # fmt: skip
    tables.print_table(table)
    total = sum(left.values())
    # No shorter than its longest job.
    wall = max(total / num_slots, max(left.values(), default=0.0))
    runs = sum(one.num_runs for one in jobs)
    console.say(
        f"{runs} runs in {len(jobs)} programs, {duration_text(total)} of computing left: about "
        f"{duration_text(wall)} with {num_slots} at a time. Steps were timed on this machine."
    )


def print_status(jobs: Sequence[Job], state: Callable[[Workdir], str]) -> None:
    """Prints a row a job: how far it is, and what is known of its process or job."""
    table = Table(title="Status", title_justify="left")
    for heading in ("program", "state", "process or job"):
        table.add_column(heading, no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("last said", overflow="fold")
    for one in jobs:
        own, done = state(one.workdir), fraction_done(one)
        # What is neither complete nor under way has failed, if it ever began.
        is_over = not own or own.startswith(ENDED)
        failed = done < 1 and one.workdir.log.exists() and is_over
        said = last_line(one.workdir.log) if failed else ""
        step, steps = last_step(one.workdir.metrics), one.config.training.num_steps
        table.add_row(
            escape(one.name), _state(one, done), own or "-", f"{step:,}/{steps:,}", escape(said)
        )
    tables.print_table(table)
    complete = sum(one.is_complete() for one in jobs)
    console.say(f"{complete} of {len(jobs)} programs are complete.")


def last_line(path: Path) -> str:
    """Of a log; '' for an empty one."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def fraction_done(job: Job) -> float:
    """In [0, 1], by the last line of metrics; 1 for what is complete alone."""
    if job.is_complete():
        return 1.0
    done = last_step(job.workdir.metrics) / job.config.training.num_steps
    return min(done, ALMOST_DONE)


def _state(job: Job, done: float) -> str:
    if done == 1:
        return "complete"
    if job.waits_for is not None:
        return "waits for its search"
    return f"{done:.0%} done" if done else "to run"


class SweepDisplay(Watcher):
    """A line when a job starts or ends, and how far all of them are, with the time left."""

    def __init__(self, jobs: Sequence[Job], num_slots: int) -> None:
        """Weighs the jobs against each other, by steps of all of their runs."""
        self._weights = {one.name: one.num_runs * one.config.training.num_steps for one in jobs}
        self._done = {one.name: fraction_done(one) for one in jobs}
        self._bar = progress.ProgressBar("all runs")
        self._started, self._first = time.monotonic(), self._work_done()
        self._last_line = self._started
        complete = sum(done == 1 for done in self._done.values())
        runs = sum(one.num_runs for one in jobs)
        console.say(
            f"{len(jobs)} programs of {runs} runs, {complete} complete; {num_slots} at a time"
        )

    def __enter__(self) -> SweepDisplay:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar, so that something else may be printed."""
        self._bar.close()

    def started(self, job: Job) -> None:
        """See Watcher."""
        console.say(f"started   {job.name}")

    def ended(self, job: Job, failure: Failure | None) -> None:
        """See Watcher."""
        self._done[job.name] = fraction_done(job)
        if failure is None:
            console.say(f"complete  {job.name}  {self._progress()}")
        else:
            console.say(f"failed    {job.name}  ({failure.how}); others go on")

    def polled(self, running: Sequence[Job]) -> None:
        """See Watcher."""
        for job in running:
            self._done[job.name] = fraction_done(job)
        share = self._work_done() / max(sum(self._weights.values()), 1e-9)
        self._bar.update(share, self._progress())
        now = time.monotonic()
        if not self._bar.is_shown and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            names = ", ".join(f"{one.name} {self._done[one.name]:.0%}" for one in running)
            console.say(f"running   {self._progress()}  ({names})")

    def _work_done(self) -> float:
        return sum(weight * self._done[name] for name, weight in self._weights.items())

    def _progress(self) -> str:
        complete = sum(done == 1 for done in self._done.values())
        text = f"{complete}/{len(self._done)} programs"
        done, passed = self._work_done() - self._first, time.monotonic() - self._started
        left = sum(self._weights.values()) - self._work_done()
        if done > 0 and left > 0:
            text += f", {duration_text(left * passed / done)} left"
        return text


def print_failures(failures: Sequence[Failure]) -> None:
    """Prints what became of jobs that failed, with the end of their logs."""
    for failure in failures:
        console.say_error(f"{failure.job.name} failed ({failure.how}):")
        console.say("\n".join(f"  {line}" for line in failure.lines) + f"\n  ({failure.log})")


def print_verdicts(results: Mapping[str, Any]) -> None:
    """Prints a row a finding, and a row a check below it."""
    table = Table(title="Verdicts", title_justify="left")
    table.add_column("finding", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was claimed, and measured", overflow="fold")
    for finding in finding_rows(results):
        table.add_row(escape(finding.name), finding.verdict, escape(finding.claim), style="bold")
        for one in finding.checks:
            text = escape(f"{one.check}: {one.said}")
            table.add_row("", f"  {one.sign} {one.outcome}", text)
        table.add_section()
    tables.print_table(table)
    for name, sweep in results["sweeps"].items():
        for condition, search in (sweep["search"] or {}).items():
            if search["chosen"] is None:
                console.say(
                    f"{name}/{condition}: every draw of the search diverged; it has no runs"
                )
