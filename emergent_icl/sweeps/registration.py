"""Registrations: claims of sweeps and how they will be judged, recorded before their runs.

registration.json lies in the folder of the sweeps, is never overwritten, and should be committed
before the first run. A verdict is registered only if claim, settings, seeds, and family equal those
of a registration that is older than all its runs; otherwise, the differences are listed.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten, is_resumable, tuples, with_options
from emergent_icl.config.identity import completed, differing_options, lacking
from emergent_icl.config.options import known
from emergent_icl.runs.progress import utc_now
from emergent_icl.runs.provenance import commit_of, git
from emergent_icl.runs.recorded_data import recorded_source
from emergent_icl.runs.records import versions
from emergent_icl.runs.workdir import WorkdirError, read_object, write_whole
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.recorded_data import own_data
from emergent_icl.sweeps.results import results_text
from emergent_icl.sweeps.spec import Condition, Sweep, SweepError
from emergent_icl.sweeps.statistics import LEVEL
from emergent_icl.sweeps.verdicts import ALPHA

FILE = "registration.json"
REGISTERED, UNREGISTERED = "registered", "not registered"
CHANGED = "changed after registration: "
# Fields of a sweep that do not affect verdicts, or that `content_of` writes in another form.
_OMITTED = {
    "name", "title", "axis", "measures", "plot", "notes", "together",
    "base", "conditions", "claim", "search",
}  # fmt: skip
# The user's own data, {condition: as its runs will record them}; absent for other sources.
_DATA = "data"
# Differences that are listed; the others are counted.
_MOST = 5

# JSON, or a part of it.
Json = Mapping[str, Any]


def register(sweeps: Sequence[Sweep], root: Path) -> dict[str, Any]:
    """Writes registration.json unless it exists with equal content; returns the content.

    Raises:
      SweepError: its content differs, runs for the verdicts have begun, or there is no claim.
      DataUnavailableError: the user's own data cannot be read.
      WorkdirError: the file was damaged or edited.
    """
    found, sweeps = read(root), [one for one in sweeps if one.claim]
    if not sweeps:
        raise SweepError("there is no claim to register")
    data = {sweep.name: own_data(sweep) for sweep in sweeps}
    if found is not None:
        differing = _family_differences(found, sweeps)
        for sweep in sweeps:
            if own := found["sweeps"].get(sweep.name):
                changed = [*differences(own, sweep), *_data_differences(own, data[sweep.name])]
                differing += [f"{sweep.name}: {one}" for one in changed]
        if differing:
            raise SweepError(
                f"{root / FILE} has different content and is never overwritten; use another "
                f"--workdir: {_listed(differing)}"
            )
        return found
    jobs = make_jobs(sweeps, root)
    begun = [job.name for job in jobs if not job.is_search and job.workdir.config.exists()]
    if begun:
        raise SweepError(f"runs that have begun cannot be registered: {_listed(begun)} in {root}")
    content = {sweep.name: content_of(sweep) for sweep in sweeps}
    for name, sources in data.items():
        if sources:
            content[name][_DATA] = sources
    about = {"registered": utc_now(), "hash": hash_of(content), "commit": commit_of()}
    made = {**about, "versions": versions(["emergent-icl"]), "sweeps": content}
    write_whole(root / FILE, results_text(made) + "\n")
    return made


def read(root: Path) -> dict[str, Any] | None:
    """The registration in a folder; None if there is none.

    Raises:
      WorkdirError: it was damaged or edited: its hash differs from that of its content.
    """
    path = root / FILE
    if not path.exists():
        return None
    found = read_object(path, "registration")
    if found.get("hash") != (own := hash_of(found.get("sweeps"))):
        raise WorkdirError(
            f"{path} was edited after registration: hash = {found.get('hash')!r}, but the hash of "
            f"its sweeps is {own!r}. Restore the committed copy, or remove the file"
        )
    return found


def as_registered(sweeps: Sequence[Sweep], root: Path) -> tuple[list[Sweep], dict[str, Any]]:
    """The sweeps, with options added after their registration set to the earlier behavior.

    A later version thus runs and judges the registered sweeps. Options that a sweep sets to
    something other than the default are unchanged. Also returns the options that were set,
    {option: value}. Raises the errors of `read`.
    """
    registered, options = (read(root) or {"sweeps": {}})["sweeps"], known()
    found, kept = [], {}
    for sweep in sweeps:
        here = flatten(sweep.base.to_dict())
        added = lacking(registered[sweep.name]["config"]) if sweep.name in registered else {}
        earlier = {
            path: value
            for path, value in added.items()
            if path in here and here[path] == options[path].default != value
        }
        found.append(sweep.with_base_options(earlier))
        kept |= earlier
    return found, kept


def status(sweeps: Sequence[Sweep], root: Path) -> dict[str, Any]:
    """The registration as reported in results.json: hash, time, commit, and a status per sweep.

    `is_committed` is whether a file at HEAD contains all three; None if unknown. A status is 'not
    registered', starts with 'registered on DATE as HASH', or starts with 'changed after
    registration: ' and lists the differences: claim, bounds, conditions, options, seeds, sweeps
    judged together, data of runs, or runs that began before. Raises the errors of `read`.
    """
    found, sweeps = read(root), [one for one in sweeps if one.claim]
    marks = {sweep.name: UNREGISTERED for sweep in sweeps}
    if found is None:
        return {"status": marks}
    facts = {name: found[name] for name in ("hash", "registered", "commit")}
    lines = [f"-e{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    exit_status, _ = git("grep", "-qF", "--all-match", *lines, "HEAD", "--", ":/")
    facts["is_committed"] = exit_status == 0 if exit_status in (0, 1) else None
    jobs, together = make_jobs(sweeps, root), _family_differences(found, sweeps)
    for sweep in sweeps:
        if (registered := found["sweeps"].get(sweep.name)) is None:
            continue
        complete = [
            job
            for job in jobs
            if job.sweep == sweep.name and not job.is_search and job.is_complete()
        ]
        # Versions that did not record when a run began could not register either.
        began = {
            job.name: (job.workdir.read_summary() or {}).get("started") or "" for job in complete
        }
        early = [name for name, time in began.items() if time < found["registered"]]
        differing = [*differences(registered, sweep), *together]
        for job in complete:
            # A job that trains all conditions together has no name of its own.
            own = [job.condition] if job.condition else [one.name for one in sweep.conditions]
            recorded = dict.fromkeys(own, recorded_source(job.workdir))
            differing += _data_differences(registered, recorded)
        differing += [f"runs began before it: {_listed(early)}"] if early else []
        differing = list(dict.fromkeys(differing))
        added = len(sweep.seeds) - len(registered["seeds"])
        mark = registered_text(facts) + (f", {added} seeds added by its rule" if added else "")
        marks[sweep.name] = CHANGED + _listed(differing) if differing else mark
    return {**facts, "status": marks}


def registered_text(facts: Json) -> str:
    """'registered on 2026-11-28 as 3f2a91c0d2e1', with a note if it is not committed."""
    but = " (in no file at HEAD)" if facts.get("is_committed") is False else ""
    return f"{REGISTERED} on {facts['registered'][:10]} as {facts['hash'][:12]}{but}"


def content_of(sweep: Sweep) -> dict[str, Any]:
    """Everything that affects a sweep's verdict, as JSON, including fields added to Sweep later."""
    claim, checks = sweep.claim, {}
    assert claim is not None
    for number, check in enumerate(claim.checks, 1):
        text = check.read_by(claim.rule).text()
        checks[str(number)] = {"check": type(check).__name__, "text": text, **vars(check)}
    names = [field.name for field in dataclasses.fields(sweep)]
    return _plain(
        {
            "claim": {**vars(claim), "checks": checks, "alpha": ALPHA, "level": LEVEL},
            **{name: getattr(sweep, name) for name in names if name not in _OMITTED},
            "conditions": {
                one.name: {"value": one.value, "overrides": one.overrides}
                for one in sweep.conditions
            },
            "search": sweep.search and vars(sweep.search),
            "config": sweep.base.to_dict(),
        }
    )


def differences(registered: Json, sweep: Sweep) -> list[str]:
    """How a sweep differs from its registered content in ways that affect its verdict.

    Additional seeds up to the registered `most_seeds` are not a difference.
    """
    there, here = dict(registered), content_of(sweep)
    there.pop(_DATA, None)  # See `_data_differences`.
    bases = (ConfigDict(tuples(completed(one.pop("config")))) for one in (there, here))
    old_base, new_base = bases
    before, now = there["seeds"], here["seeds"]
    if before == now[: len(before)] and len(now) <= there.get("most_seeds", 0):
        there["seeds"] = now
    old, new = flatten(there), flatten(here)
    both = [(path, old[path], new[path]) for path in old if path in new and old[path] != new[path]]
    both += [
        (f"config.{path}", *values)
        for path, *values in _differing(old_base, new_base, sweep.conditions)
        # The number of steps affects measurements; the location of runs does not.
        if path == "training.num_steps" or not is_resumable(path)
    ]
    return [
        *(f"{path}: {one!r} registered, {two!r} now" for path, one, two in both),
        *(f"{path} was not registered" for path in new if path not in old),
        *(f"{path} is gone" for path in old if path not in new),
    ]


def _data_differences(registered: Json, data: Mapping[str, str]) -> list[str]:
    """Conditions with data other than those registered, if any; '' is unknown."""
    there = registered.get(_DATA, {})
    return [
        f"data of {name}: {source!r}, not {there[name]!r}"
        for name, source in data.items()
        if source and source != there.get(name, source)
    ]


def _differing(
    before: ConfigDict, now: ConfigDict, conditions: Sequence[Condition]
) -> list[tuple[str, Any, Any]]:
    """Like `differing_options`, in the base or in any condition.

    An option that equals its derived value in the base may differ from it in a condition.
    """
    found = {one[0]: one for one in differing_options(before, now)}
    for condition in conditions:
        with contextlib.suppress(KeyError):  # The base lacked an option.
            there, here = (with_options(base, condition.overrides) for base in (before, now))
            found |= {one[0]: one for one in differing_options(there, here)}
    return list(found.values())


def hash_of(content: Any) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value after a JSON round trip; values that JSON lacks, such as infinity, become strings."""
    words = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
    return json.loads(json.dumps(value, default=str), parse_constant=words.__getitem__)


def _family_differences(found: Json, sweeps: Sequence[Sweep]) -> list[str]:
    """Registered claims must be judged together, since p is adjusted for their number."""
    here, there = [sweep.name for sweep in sweeps], list(found["sweeps"])
    if set(here) == set(there):
        return []
    return [f"judged together: {', '.join(there)} registered, {', '.join(here)} now"]


def _listed(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _MOST} more" if len(items) > _MOST else ""
    return "; ".join(items[:_MOST]) + more
