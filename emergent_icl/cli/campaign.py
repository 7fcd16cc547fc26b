"""Sweeps from plan to report: what `experiments.sweep` and `experiments.reproduce` share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emergent_icl.cli import console
from emergent_icl.cli.sweep_display import SweepDisplay, print_plan, print_status, print_verdicts
from emergent_icl.plots.report import write_report
from emergent_icl.plots.sweep_data import context_text
from emergent_icl.plots.sweep_figures import draw_finding, draw_summary
from emergent_icl.runs.workdir import Workdir, write_whole
from emergent_icl.sweeps.estimate import Estimate, StepTimes, estimate
from emergent_icl.sweeps.execute.loop import Failure, Place, Stopped, run_programs
from emergent_icl.sweeps.execute.slots import Slot
from emergent_icl.sweeps.jobs import Program, make_programs, with_twins
from emergent_icl.sweeps.results import collect, results_text
from emergent_icl.sweeps.spec import Sweep, SweepError

RESULTS = "results.json"


class Campaign(NamedTuple):
    """Sweeps that are run together.

    Attributes:
      sweeps: checked, names differ.
      seeds: of the runs for the verdict.
      root: their folder.
      runs_per_program: replicas that are trained together, at most.
      about: stands at the top of results.json.
    """

    sweeps: tuple[Sweep, ...]
    seeds: tuple[int, ...]
    root: Path
    runs_per_program: int
    about: Mapping[str, Any]

    def programs(self) -> list[Program]:
        """Every program of every sweep, searches first; what would be run twice has a twin.

        Raises:
          SweepError: see `make_programs`.
        """
        all_ = [
            program
            for sweep in self.sweeps
            for program in make_programs(sweep, self.seeds, self.root, self.runs_per_program)
        ]
        waited_for = {one.waits_for.path for one in all_ if one.waits_for is not None}
        ordered = sorted(all_, key=lambda program: program.workdir.path not in waited_for)
        return with_twins(ordered, self.root)

    def check(self) -> None:
        """Checks that no folder holds other runs.

        Raises:
          WorkdirError: one does.
        """
        for program in self.programs():
            # Of what waits for a search nobody knows yet which runs they are.
            if program.waits_for is None:
                program.check()


def check_names(sweeps: Sequence[Sweep]) -> None:
    """Raises SweepError if two sweeps would share a folder."""
    names = [sweep.name for sweep in sweeps]
    for name in {name for name in names if names.count(name) > 1}:
        raise SweepError(f"two sweeps are named '{name}'")


def show_plan(campaign: Campaign, slots: Sequence[Slot]) -> None:
    """Prints every run with its estimated time; runs nothing but the timed steps.

    Raises:
      WorkdirError: a folder holds other runs.
    """
    campaign.check()
    programs = campaign.programs()
    # As a program will run: on the cores of one slot.
    if slots[0].cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slots[0].cores)
    times = StepTimes(measure=True)
    estimates: dict[str, Estimate] = {one.name: estimate(one, times) for one in programs}
    print_plan(programs, estimates, len(slots))


def show_status(campaign: Campaign, state: Callable[[Workdir], str]) -> None:
    """Prints what became of every program.

    Args:
      campaign: what.
      state: what is known of the process, or job, of a work directory; '' for nothing.
    """
    print_status(campaign.programs(), state)


def run(
    campaign: Campaign,
    place: Place,
    at_once: int,
    stop_requested: Callable[[], signal.Signals | None],
) -> tuple[dict[str, Any], list[Failure]]:
    """Runs what is missing, then judges and draws what there is.

    Args:
      campaign: what.
      place: where.
      at_once: programs that run there side by side, at most.
      stop_requested: polled; a signal to stop for, or None.

    Returns:
      The content of results.json, and the programs that failed.

    Raises:
      WorkdirError: a folder holds other runs; nothing was touched.
      Stopped: asked to; what is complete was judged.
    """
    campaign.check()
    with SweepDisplay(campaign.programs(), at_once) as display:
        try:
            failures = run_programs(campaign.programs, place, display, stop_requested)
        except Stopped:
            display.close()
            judge_and_draw(campaign)
            raise
    return judge_and_draw(campaign), failures


def judge_and_draw(campaign: Campaign) -> dict[str, Any]:
    """Writes results.json, figures/ and report.html, and prints the verdicts."""
    root = campaign.root
    found = collect(campaign.sweeps, campaign.seeds, root, campaign.about)
    # As a reader of the file sees it: tuples have become lists.
    results = json.loads(json.dumps(found))
    write_whole(root / RESULTS, results_text(results) + "\n")
    for name, sweep in results["sweeps"].items():
        verdict, stem = results["verdicts"][name], root / "figures" / name
        draw_finding(name, sweep, verdict, stem, context_text(results))
    draw_summary(results, root / "figures" / "summary")
    write_report(results, root / "figures", root / "report.html")
    print_verdicts(results)
    console.say(f"Numbers: {root / RESULTS}\nReport: {root / 'report.html'}")
    return results
