"""What a run was trained on: recorded in data.json before its first step, compared ever after."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emergent_icl.data.bank import ExampleBank
from emergent_icl.data.sources.cache import checksum
from emergent_icl.runs import processes
from emergent_icl.runs.records import versions
from emergent_icl.runs.workdir import Workdir, WorkdirError, read_object
from emergent_icl.training.replicas import Replica

logger = logging.getLogger(__name__)

# What resizes and draws examples.
PACKAGES = ("emergent-icl", "numpy", "pillow")
_KINDS = {"source": str, "examples": str, "splits": dict, "from_step": int, "versions": dict}


class OtherDataError(WorkdirError):
    """The data are not those that the run was trained on."""


def check_data(workdir: Workdir, bank: ExampleBank, replicas: Sequence[Replica] = ()) -> None:
    """A run goes on, and is looked at, only on the data that it was trained on.

    Other examples of the same source, and a run without a record, are warned of.

    Raises:
      OtherDataError: another source, or another split for one of these replicas, which are known
        by name; on every process of a run.
    """
    problem = _problem(workdir, bank, _splits(replicas)) if processes.is_primary() else None
    if problem := processes.of_primary(problem):
        raise OtherDataError(problem)


def record_data(
    workdir: Workdir, bank: ExampleBank, replicas: Sequence[Replica], step: int
) -> None:
    """Records the data of a run from a step on, unless they are recorded already."""
    if workdir.data.exists():
        return
    about = {
        "source": bank.source,
        "examples": f"{bank.checksum:08x}",
        "splits": _splits(replicas),
        "from_step": step,
        "versions": versions(PACKAGES),
    }
    workdir.write_json(workdir.data, about)


def recorded_source(workdir: Workdir) -> str:
    """The source that a run recorded, in words; '' if there is no record."""
    return _read(workdir)["source"] if workdir.data.exists() else ""


def _read(workdir: Workdir) -> dict[str, Any]:
    """The record; raises WorkdirError if it is damaged."""
    record = read_object(workdir.data, "record of data")
    bad = [name for name, kind in _KINDS.items() if not isinstance(record.get(name), kind)]
    if bad:
        raise WorkdirError(f"{workdir.data} is not a record of data: see {', '.join(bad)}")
    return record


def _splits(replicas: Sequence[Replica]) -> dict[str, str]:
    """Which classes and exemplars are held out, and the others' roles: a checksum a replica."""
    ids = {
        one.name: np.append(one.task.space.split.class_ids, one.task.space.holdout_exemplars)
        for one in replicas
    }
    return {name: f"{checksum(array.astype(np.int32)):08x}" for name, array in ids.items()}


def _problem(workdir: Workdir, bank: ExampleBank, splits: dict[str, str]) -> str | None:
    """Why the data are refused; warns where they may be others."""
    if not workdir.data.exists():
        if workdir.holds_checkpoints():
            _warn(
                f"The run in {workdir.path} recorded no checksum of its data (an earlier version "
                "trained it): whether they are these is not known."
            )
        return None
    try:
        there = _read(workdir)
    except WorkdirError as error:
        return f"{error}\nWithout that file the run resumes on whatever data it finds."
    made_there, made_here = map(_in_words, (there["versions"], versions(PACKAGES)))
    pairs = [("source", there["source"], bank.source)]
    for name, split in splits.items():
        who = f" of replica '{name}'" if name else ""
        pairs.append((f"split{who}", there["splits"].get(name), split))
    differences = [
        f"\n  {what}: {old!r} there ({made_there}), {new!r} here"
        for what, old, new in pairs
        if old and new and old != new
    ]
    if differences:
        return (
            f"{workdir.path} holds a run on other data:{''.join(differences)}\n"
            "Give it its own data again, or train another run on these in another --workdir."
        )
    if there["examples"] != f"{bank.checksum:08x}":
        _warn(
            f"The examples differ from those of the run in {workdir.path}, though their source "
            f"({bank.source or 'not known'}) does not: made there with {made_there}, here with "
            f"{made_here}. Numbers may differ from the run's own."
        )
    if step := there["from_step"]:
        _warn(f"The run in {workdir.path} recorded its data from step {step} on, not before.")
    return None


def _in_words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@functools.cache
def _warn(text: str) -> None:
    """Once, however many replicas of a run are opened."""
    logger.warning("%s", text)
