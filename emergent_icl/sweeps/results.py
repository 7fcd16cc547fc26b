"""results.json: the measurements of all sweeps, and the verdicts."""

import json
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emergent_icl.config.configs import flatten
from emergent_icl.data.task import Task, make_task
from emergent_icl.evaluation import measures
from emergent_icl.evaluation.measures import MEASURES
from emergent_icl.runs.records import PACKAGES, processor, versions
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.evidence import Evidence, MeasuredRun, read_runs
from emergent_icl.sweeps.jobs import Job, chosen_draw, config_key, draws, make_jobs
from emergent_icl.sweeps.recorded_data import check_same_data
from emergent_icl.sweeps.spec import Condition, Sweep
from emergent_icl.sweeps.verdicts import Readings, judge_family

DIGITS = 5

# Condition -> its complete runs sorted by seed, each with its job.
_Found = dict[str, list[tuple[Job, MeasuredRun]]]


def collect(sweeps: Sequence[Sweep], root: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Reads all measurements, judges all claims, and returns the content of results.json.

    Args:
      sweeps: must have been checked.
      root: the common folder of the sweeps.
      about: entries to add at the top.
    """
    jobs = make_jobs(sweeps, root)
    check_same_data(jobs)
    found = {sweep.name: _found(sweep, jobs) for sweep in sweeps}
    claimed = {one.name: (one, one.claim) for one in sweeps if one.claim is not None}
    readings = judge_family({name: _judged(*one, found[name]) for name, one in claimed.items()})
    # By config, so that copies of runs are counted once.
    trained = {config_key(job.config): job for job in jobs if job.is_complete()}.values()
    summaries = [summary for one in trained if (summary := one.workdir.read_summary())]
    return {
        **about,
        "dataset": ", ".join(sorted({sweep.base.data.source for sweep in sweeps})),
        "seeds": sorted({seed for sweep in sweeps for seed in sweep.seeds}),
        "machine": {
            "processor": processor(),  # The machine that judges.
            "cores": os.cpu_count(),
            "devices": ", ".join(sorted({summary["devices"] for summary in summaries})),
            "platform": f"{platform.system()} {platform.machine()}",
        },
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
    """JSON with one line per curve instead of one per point."""
    entries = results.values() if isinstance(results, dict) else results
    if not isinstance(results, dict | list) or not any(isinstance(e, dict | list) for e in entries):
        # NaN is not valid JSON: write no file rather than one that others cannot read.
        return json.dumps(results, allow_nan=False)
    inner = indent + "  "
    if isinstance(results, list):
        brackets, lines = "[]", [results_text(entry, inner) for entry in results]
    else:
        pairs = results.items()
        brackets, lines = "{}", [f"{json.dumps(k)}: {results_text(e, inner)}" for k, e in pairs]
    whole = ",\n".join(inner + line for line in lines)
    return f"{brackets[0]}\n{whole}\n{indent}{brackets[1]}"


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
    """A sweep's claim, its evidence, and the expected runs per condition."""
    runs = {
        name: tuple(run for _, run in own if run.diverged_at_step is None)
        for name, own in found.items()
    }
    values = {condition.name: condition.value for condition in sweep.conditions}
    names = set().union(*(check.measures() for check in claim.checks))
    best = measures.best_constant
    constants = {one.name: _levels(best, sweep, one, names) for one in sweep.conditions}
    return claim, Evidence(runs, values, constants), len(sweep.seeds)


def _levels(
    level: Callable[[str, Task], float | None],
    sweep: Sweep,
    condition: Condition,
    names: Iterable[str],
) -> dict[str, float]:
    """{measure: accuracy without learning}, if known, in a condition."""
    task = make_task(sweep.config(condition))
    levels = {measure: level(measure, task) for measure in names}
    return {measure: one for measure, one in levels.items() if one is not None}


def _verdict(claim: Claim, found: _Found, readings: Readings) -> dict[str, Any]:
    own, strict = readings
    return {
        "verdict": own.verdict,
        "claim": claim.text,
        "rule": claim.rule,
        "statistics": [
            {"check": check.text(), **_rounded(result._asdict())}
            for check, result in zip(claim.read_by(claim.rule), own.results, strict=True)
        ],
        "strict": {
            "verdict": strict.verdict,
            "outcomes": [result.outcome for result in strict.results],
            "p": _rounded(strict.p),
            "p_adjusted": _rounded(strict.p_adjusted),
        },
        "runs": [
            f"{one.name} ({run.replica})"
            for own in found.values()
            for one, run in own
            if run.diverged_at_step is None
        ],
    }


def _sweep(sweep: Sweep, found: _Found, jobs: Sequence[Job]) -> dict[str, Any]:
    fields = ("title", "axis", "notes", "plot", "seeds", "split", "measures")
    return {
        **{name: getattr(sweep, name) for name in fields},
        "config": flatten(sweep.base.to_dict()),
        "conditions": {
            one.name: _condition(sweep, one, found[one.name]) for one in sweep.conditions
        },
        "search": _search(sweep, jobs),
    }


def _condition(
    sweep: Sweep, condition: Condition, runs: list[tuple[Job, MeasuredRun]]
) -> dict[str, Any]:
    # Other metrics are kept without their curves.
    drawn = {*MEASURES, *sweep.measures}
    fields = ("replica", "diverged_at_step", "evaluation_seed", "num_sequences")
    return {
        "value": condition.value,
        "overrides": dict(condition.overrides),
        "chance": _rounded(_levels(measures.chance, sweep, condition, sweep.measures)),
        "constant": _rounded(_levels(measures.best_constant, sweep, condition, sweep.measures)),
        "runs": {
            str(run.seed): {
                "workdir": job.name,
                **{name: getattr(run, name) for name in fields},
                "curves": {
                    name: {"steps": list(curve), "values": _rounded(list(curve.values()))}
                    for name, curve in run.curves.items()
                    if name in drawn
                },
                "final": _rounded(run.final),
            }
            for job, run in runs
        },
    }


def _search(sweep: Sweep, jobs: Sequence[Job]) -> dict[str, Any] | None:
    if sweep.search is None:
        return None
    searches: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.sweep == sweep.name and job.is_search:
            searches[job.condition].append(job)
    found = {}
    for condition, own in searches.items():
        if all(job.is_complete() for job in own):
            chosen = chosen_draw(sweep.search, own)
            found[condition] = {
                "chosen": chosen.run.replica if chosen else None,
                "choose_by": sweep.search.choose_by,
                "num_steps": sweep.search.num_steps or sweep.base.training.num_steps,
                "draws": {
                    run.replica: {
                        "overrides": overrides,
                        "diverged_at_step": run.diverged_at_step,
                        "final": _rounded(run.final),
                    }
                    for overrides, run in draws(sweep.search, own)
                },
            }
    return found


def _versions(summaries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions of this project, which judges, and of the packages that computed the runs."""
    own = versions(["emergent-icl"])
    found = {
        name: sorted({one["versions"][name] for one in summaries if name in one["versions"]})
        for name in PACKAGES
    }
    return own | {name: ", ".join(several) for name, several in found.items() if several}


def _rounded(value: Any) -> Any:
    """A nested value with all floats rounded to DIGITS decimals."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value
