"""results.json: every number of every sweep, and the verdicts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emergent_icl.config.configs import flatten
from emergent_icl.data.task import Task, make_task
from emergent_icl.runs.records import PACKAGES, processor, versions
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.jobs import Job, check_same_data, chosen_draw, config_key, draws, make_jobs
from emergent_icl.sweeps.measures import (
    MEASURES,
    Evidence,
    MeasuredRun,
    best_constant,
    chance,
    read_runs,
)
from emergent_icl.sweeps.spec import Condition, Sweep
from emergent_icl.sweeps.verdicts import Readings, judge_family

DIGITS = 5


def collect(sweeps: Sequence[Sweep], root: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what the runs measured, and judges every sweep; the content of results.json.

    The sweeps are checked, and the root is the folder of all of them; `about` is what else stands
    at the top: 'preset', None for sweeps of one's own.
    """
    jobs = make_jobs(sweeps, root)
    check_same_data(jobs)
    found = {sweep.name: _found(sweep, jobs) for sweep in sweeps}
    claimed = {one.name: (one, one.claim) for one in sweeps if one.claim is not None}
    readings = judge_family({name: _judged(*one, found[name]) for name, one in claimed.items()})
    # By what they train, so that copies of runs are counted once.
    trained = {config_key(job.config): job for job in jobs if job.is_complete()}.values()
    summaries = [summary for one in trained if (summary := one.workdir.read_summary())]
    return {
        **about,
        "dataset": ", ".join(sorted({sweep.base.data.source for sweep in sweeps})),
        "seeds": sorted({seed for sweep in sweeps for seed in sweep.seeds}),
        "machine": _machine(summaries),
        "versions": _versions(summaries),
        "runs": sum(one.num_runs for one in trained),
        "compute_seconds": sum(summary["wall_seconds"] for summary in summaries),
        "claims": len(claimed),
        "verdicts": {
            name: _verdict(claim, found[name], readings[name])
            for name, (_, claim) in claimed.items()
        },
        "sweeps": {one.name: _sweep(one, found[one.name], jobs) for one in sweeps},
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


# Condition -> its complete runs by seed, each with the job that it is of.
_Found = dict[str, list[tuple[Job, MeasuredRun]]]


def _found(sweep: Sweep, jobs: Sequence[Job]) -> _Found:
    found: dict[str, dict[int, tuple[Job, MeasuredRun]]]
    found = {condition.name: {} for condition in sweep.conditions}
    for job in jobs:
        if job.sweep == sweep.name and not job.is_search and not job.waits_for:
            for run in read_runs(job.workdir) if job.is_complete() else []:
                if run.seed in sweep.seeds:
                    found[job.condition or run.replica].setdefault(run.seed, (job, run))
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}


def _judged(sweep: Sweep, claim: Claim, found: _Found) -> tuple[Claim, Evidence, int]:
    """What is judged of a sweep: its claim, what was found, and how many runs there should be."""
    runs = {
        name: tuple(run for _, run in own if run.diverged_at_step is None)
        for name, own in found.items()
    }
    values = {condition.name: condition.value for condition in sweep.conditions}
    measures = set().union(*(check.measures() for check in claim.checks))
    constants = {one.name: _levels(best_constant, sweep, one, measures) for one in sweep.conditions}
    return claim, Evidence(runs, values, constants), len(sweep.seeds)


def _levels(
    level: Callable[[str, Task], float | None],
    sweep: Sweep,
    condition: Condition,
    measures: Iterable[str],
) -> dict[str, float]:
    """What answers without learning give in a condition, of each measure where it is known."""
    task = make_task(sweep.config(condition))
    levels = {measure: level(measure, task) for measure in measures}
    return {measure: one for measure, one in levels.items() if one is not None}


def _verdict(claim: Claim, found: _Found, readings: Readings) -> dict[str, Any]:
    own, strict = readings
    outcomes = [result.outcome for result in strict.results]
    return {
        "verdict": own.verdict,
        "claim": claim.text,
        "rule": claim.rule,
        "statistics": [
            {"check": check.text(), **_rounded(result._asdict())}
            for check, result in zip(claim.read_by(claim.rule), own.results, strict=True)
        ],
        # By limits, which is the stricter reading of a claim whose rule is another.
        "strict": {
            "verdict": strict.verdict,
            "outcomes": outcomes,
            "p": _rounded(strict.p),
            "p_adjusted": _rounded(strict.p_adjusted),
        },
        "runs": [f"{one.name} ({run.replica})" for own in found.values() for one, run in own],
    }


def _sweep(sweep: Sweep, found: _Found, jobs: Sequence[Job]) -> dict[str, Any]:
    return {
        "title": sweep.title,
        "axis": sweep.axis,
        "notes": sweep.notes,
        "plot": sweep.plot,
        "seeds": list(sweep.seeds),
        "split": sweep.split,
        "measures": list(sweep.measures),
        "config": flatten(sweep.base.to_dict()),
        "conditions": {
            one.name: _condition(sweep, one, found[one.name]) for one in sweep.conditions
        },
        "search": _search(sweep, jobs),
    }


def _condition(
    sweep: Sweep, condition: Condition, runs: list[tuple[Job, MeasuredRun]]
) -> dict[str, Any]:
    # Of other metrics than the named measures and the sweep's own, the end is enough.
    kept = {*MEASURES, *sweep.measures}
    return {
        "value": condition.value,
        "overrides": dict(condition.overrides),
        "chance": _rounded(_levels(chance, sweep, condition, sweep.measures)),
        "constant": _rounded(_levels(best_constant, sweep, condition, sweep.measures)),
        "runs": {
            str(run.seed): {
                "workdir": job.name,
                "replica": run.replica,
                "diverged_at_step": run.diverged_at_step,
                "evaluation_seed": run.evaluation_seed,
                "num_sequences": run.num_sequences,
                "curves": {
                    name: {"steps": list(curve), "values": _rounded(list(curve.values()))}
                    for name, curve in run.curves.items()
                    if name in kept
                },
                "final": _rounded(run.final),
            }
            for job, run in runs
        },
    }


def _search(sweep: Sweep, jobs: Sequence[Job]) -> dict[str, Any] | None:
    if sweep.search is None:
        return None
    found = {}
    for job in jobs:
        if job.sweep == sweep.name and job.is_search and job.is_complete():
            chosen = chosen_draw(sweep.search, job)
            found[job.condition] = {
                "chosen": chosen.run.replica if chosen else None,
                "draws": {
                    run.replica: {
                        "overrides": overrides,
                        "diverged_at_step": run.diverged_at_step,
                        "final": _rounded(run.final),
                    }
                    for overrides, run in draws(sweep.search, job)
                },
            }
    return found


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
    """The same, with DIGITS of every number in it."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value
