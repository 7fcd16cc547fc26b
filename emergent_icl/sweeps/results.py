"""results.json: every number of every sweep, and the verdicts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emergent_icl.config.configs import flatten
from emergent_icl.data.task import make_task
from emergent_icl.runs.records import PACKAGES, processor, versions
from emergent_icl.sweeps.checks import Check, Evidence, Finding
from emergent_icl.sweeps.claims import judge
from emergent_icl.sweeps.jobs import (
    Draw,
    Program,
    chosen_draw,
    draws,
    make_programs,
    search_program,
)
from emergent_icl.sweeps.measures import MEASURES, chance_level
from emergent_icl.sweeps.outcomes import Outcome, read_outcomes
from emergent_icl.sweeps.spec import Condition, Sweep

DIGITS = 5


def collect(
    sweeps: Sequence[Sweep], seeds: Sequence[int], root: Path, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads what the runs measured, and judges every sweep; the content of results.json.

    Args:
      sweeps: checked.
      seeds: of the runs for the verdict.
      root: folder of all sweeps.
      about: what else stands at the top: 'preset', None for sweeps that are not the paper's.
    """
    programs = {sweep.name: make_programs(sweep, seeds, root, len(seeds)) for sweep in sweeps}
    found = {sweep.name: _found(programs[sweep.name], seeds) for sweep in sweeps}
    # By what they train, so that shared runs are counted once.
    complete = (one for own in programs.values() for one in own if one.is_complete())
    trained = {one.identity(): one for one in complete}.values()
    summaries = [summary for one in trained if (summary := one.workdir.read_summary())]
    return {
        **about,
        "dataset": ", ".join(sorted({sweep.base.data.source for sweep in sweeps})),
        "seeds": list(seeds),
        "machine": _machine(summaries),
        "versions": _versions(summaries),
        "runs": sum(one.num_runs for one in trained),
        "compute_seconds": sum(summary["wall_seconds"] for summary in summaries),
        "verdicts": {one.name: _verdict(one, found[one.name], len(seeds)) for one in sweeps},
        "sweeps": {one.name: _sweep(one, found[one.name], root) for one in sweeps},
    }


def results_text(results: Any, indent: str = "") -> str:
    """JSON with a line for each curve, not for each of its points."""
    entries = results.values() if isinstance(results, dict) else results
    if not isinstance(results, dict | list) or not any(isinstance(e, dict | list) for e in entries):
        # NaN is not JSON: better no file than one that others cannot read.
        return json.dumps(results, allow_nan=False)
    inner = indent + "  "
    if isinstance(results, list):
        lines = [inner + results_text(entry, inner) for entry in results]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    lines = [f"{inner}{json.dumps(k)}: {results_text(e, inner)}" for k, e in results.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


# Folder of a condition -> its complete runs, each with the program that it is of.
_Found = dict[str, list[tuple[Program, Outcome]]]


def _found(programs: Sequence[Program], seeds: Sequence[int]) -> _Found:
    found: _Found = {}
    for program in programs:
        condition, kind = Path(program.name).parts[-2:]
        runs = found.setdefault(condition, [])
        if kind.startswith("seeds=") and program.waits_for is None and program.is_complete():
            runs += [(program, run) for run in read_outcomes(program.workdir) if run.seed in seeds]
    for runs in found.values():
        runs.sort(key=lambda run: run[1].seed)
    return found


def _verdict(sweep: Sweep, found: _Found, expected_runs: int) -> dict[str, Any]:
    evidence = Evidence(
        runs={
            one.name: tuple(
                outcome.measured()
                for _, outcome in found[one.name]
                if outcome.diverged_at_step is None
            )
            for one in sweep.conditions
        },
        values={condition.name: condition.value for condition in sweep.conditions},
    )
    judged = judge(sweep.claim, evidence, expected_runs)
    return {
        "verdict": judged.verdict,
        "claim": sweep.claim.text,
        "statistics": [
            _statistics(check, finding)
            for check, finding in zip(sweep.claim.checks, judged.findings, strict=True)
        ],
        "runs": [f"{one.name} ({run.replica})" for runs in found.values() for one, run in runs],
    }


def _statistics(check: Check, finding: Finding) -> dict[str, Any]:
    return {
        "check": check.text(),
        "outcome": finding.outcome,
        "numbers": {name: _rounded(value) for name, value in finding.numbers.items()},
        "reason": finding.reason,
    }


def _sweep(sweep: Sweep, found: _Found, root: Path) -> dict[str, Any]:
    return {
        "title": sweep.title,
        "axis": sweep.axis,
        "notes": sweep.notes,
        "plot": sweep.plot,
        "measures": list(sweep.measures),
        "config": flatten(sweep.base.to_dict()),
        "conditions": {
            one.name: _condition(sweep, one, found[one.name]) for one in sweep.conditions
        },
        "search": _search(sweep, root),
    }


def _condition(
    sweep: Sweep, condition: Condition, runs: list[tuple[Program, Outcome]]
) -> dict[str, Any]:
    plan = make_task(sweep.config(condition))
    levels = {measure: chance_level(measure, plan) for measure in sweep.measures}
    return {
        "value": condition.value,
        "overrides": dict(condition.overrides),
        "chance": {name: _rounded(level) for name, level in levels.items() if level is not None},
        "runs": {str(one.seed): _run(program, one, sweep) for program, one in runs},
    }


def _run(program: Program, outcome: Outcome, sweep: Sweep) -> dict[str, Any]:
    # Of other metrics than the named measures and the sweep's own, the end is enough.
    kept = {*MEASURES, *sweep.measures}
    return {
        "workdir": program.name,
        "replica": outcome.replica,
        "diverged_at_step": outcome.diverged_at_step,
        "curves": {
            name: {"steps": list(curve.steps), "values": [_rounded(v) for v in curve.values]}
            for name, curve in outcome.curves.items()
            if name in kept
        },
        "final": {name: _rounded(value) for name, value in outcome.final.items()},
    }


def _search(sweep: Sweep, root: Path) -> dict[str, Any] | None:
    if sweep.search is None:
        return None
    found = {}
    for condition in sweep.conditions:
        program = search_program(sweep, condition, root)
        if program.is_complete():
            chosen = chosen_draw(sweep.search, program)
            found[condition.name] = {
                "chosen": chosen.name if chosen else None,
                "draws": {one.name: _draw(one) for one in draws(sweep.search, program)},
            }
    return found


def _draw(draw: Draw) -> dict[str, Any]:
    return {
        "overrides": draw.overrides,
        "diverged_at_step": draw.outcome.diverged_at_step,
        "final": {name: _rounded(value) for name, value in draw.outcome.final.items()},
    }


def _versions(summaries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of this project, which judged, and of what the runs themselves were computed with."""
    own = versions(["emergent-icl"])
    found = {
        name: sorted({one["versions"][name] for one in summaries if name in one["versions"]})
        for name in PACKAGES
    }
    return own | {name: ", ".join(several) for name, several in found.items() if several}


def _machine(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where results were judged, and on which devices runs were trained."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "devices": ", ".join(sorted({summary["devices"] for summary in summaries})),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value
