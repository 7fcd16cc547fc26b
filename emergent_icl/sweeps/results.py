"""results.json: every number of every sweep, and the verdicts."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from emergent_icl.plan import make_plan
from emergent_icl.sweeps.claims import Check, Evidence, Finding, judge
from emergent_icl.sweeps.measures import chance_level
from emergent_icl.sweeps.outcomes import Outcome, read_outcomes
from emergent_icl.sweeps.programs import Program, chosen_setting, make_programs
from emergent_icl.sweeps.sweep import Condition, Sweep
from emergent_icl.training.summary import PACKAGES
from emergent_icl.workdir import flatten

DIGITS = 5
_CPU_INFO = Path("/proc/cpuinfo")


def collect(
    sweeps: Sequence[Sweep], seeds: Sequence[int], root: Path, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads what the runs measured, and judges every sweep; the content of results.json.

    Args:
      sweeps: checked.
      seeds: of the runs for the verdict.
      root: folder of all sweeps.
      about: what else stands at the top, such as preset and dataset.
    """
    programs = {sweep.name: make_programs(sweep, seeds, root, len(seeds)) for sweep in sweeps}
    found = {sweep.name: _found(programs[sweep.name], seeds) for sweep in sweeps}
    summaries = [one.workdir.read_summary() for own in programs.values() for one in own]
    return {
        **about,
        "seeds": list(seeds),
        "machine": _machine([summary for summary in summaries if summary]),
        "versions": {name: metadata.version(name) for name in ("emergent-icl", *PACKAGES)},
        "compute_seconds": sum(summary["wall_seconds"] for summary in summaries if summary),
        "verdicts": {one.name: _verdict(one, found[one.name], len(seeds)) for one in sweeps},
        "sweeps": {one.name: _sweep(one, found[one.name], root) for one in sweeps},
    }


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
    plan = make_plan(sweep.config(condition))
    levels = {measure: chance_level(measure, plan) for measure in sweep.measures}
    return {
        "value": condition.value,
        "overrides": dict(condition.overrides),
        "chance": {name: _rounded(level) for name, level in levels.items() if level is not None},
        "runs": {str(outcome.seed): _run(program, outcome) for program, outcome in runs},
    }


def _run(program: Program, outcome: Outcome) -> dict[str, Any]:
    return {
        "workdir": program.name,
        "replica": outcome.replica,
        "diverged_at_step": outcome.diverged_at_step,
        "curves": {
            name: {"steps": list(curve.steps), "values": [_rounded(v) for v in curve.values]}
            for name, curve in outcome.curves.items()
            if _is_kept(name)
        },
        "final": {name: _rounded(value) for name, value in outcome.final.items()},
    }


def _is_kept(measure: str) -> bool:
    """Curves of the named measures; of the other metrics, the end is enough."""
    return "/" not in measure


def _search(sweep: Sweep, root: Path) -> dict[str, Any] | None:
    if sweep.search is None:
        return None
    settings = sweep.search.settings()
    found = {}
    for condition in sweep.conditions:
        programs = make_programs(sweep, [], root, 1)
        search = next(one for one in programs if Path(one.name).parts[-2] == condition.name)
        if not search.is_complete():
            continue
        chosen = chosen_setting(sweep.search, root / sweep.name / condition.name)
        found[condition.name] = {
            "chosen": chosen.name,
            "draws": {
                name: {
                    "overrides": setting,
                    "diverged_at_step": chosen.draws[name].diverged_at_step,
                    "final": {n: _rounded(v) for n, v in chosen.draws[name].final.items()},
                }
                for name, setting in zip(chosen.draws, settings, strict=True)
            },
        }
    return found


def _machine(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    if _CPU_INFO.exists():
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
        named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        processor = next(named, processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        # Of the runs themselves, wherever they ran.
        "devices": ", ".join(sorted({summary["devices"] for summary in summaries})),
        "platform": platform.platform(),
    }


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value
