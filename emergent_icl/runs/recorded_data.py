"""The data of a run: recorded in data.json before its first step, then compared."""

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

# Packages that resize or draw examples.
PACKAGES = ("emergent-icl", "numpy", "pillow")
_KINDS = {"source": str, "examples": str, "splits": dict, "from_step": int, "versions": dict}


class OtherDataError(WorkdirError):
    """The data differ from those on which the run was trained."""


def check_data(workdir: Workdir, bank: ExampleBank, replicas: Sequence[Replica] = ()) -> None:
    """Compares the data with those on which the run in a folder was trained.

    Warns if the source is the same but the examples differ, and if the run has no record.

    Raises:
      OtherDataError: on every process, if the source or the split of one of these replicas
        differs.
    """
    problem = _problem(workdir, bank, _splits(replicas)) if processes.is_primary() else None
    if problem := processes.of_primary(problem):
        raise OtherDataError(problem)


def record_data(
    workdir: Workdir, bank: ExampleBank, replicas: Sequence[Replica], step: int
) -> None:
    """Records the data of a run from a step on, unless they are already recorded."""
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
    """The recorded description of the source; '' without a record."""
    return _read(workdir)["source"] if workdir.data.exists() else ""


def _read(workdir: Workdir) -> dict[str, Any]:
    """The record; raises WorkdirError if it is damaged."""
    record = read_object(workdir.data, "record of data")
    bad = [name for name, kind in _KINDS.items() if not isinstance(record.get(name), kind)]
    if bad:
        raise WorkdirError(f"{workdir.data} is not a record of data: see {', '.join(bad)}")
    return record


def _splits(replicas: Sequence[Replica]) -> dict[str, str]:
    """Per replica, a checksum of class roles and held-out exemplars."""
    ids = {
        one.name: np.append(one.task.space.split.class_ids, one.task.space.holdout_exemplars)
        for one in replicas
    }
    return {name: f"{checksum(array.astype(np.int32)):08x}" for name, array in ids.items()}


def _problem(workdir: Workdir, bank: ExampleBank, splits: dict[str, str]) -> str | None:
    """Why the data cannot be used, or None; warns if they may differ."""
    if not workdir.data.exists():
        if workdir.holds_checkpoints():
            _warn(
                f"The run in {workdir.path} has no record of its data (an earlier version trained "
                "it), so it is unknown whether they are the same."
            )
        return None
    try:
        there = _read(workdir)
    except WorkdirError as error:
        return f"{error}\nWithout that file, the run resumes on any data."
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
            f"{workdir.path} holds a run trained on other data:{''.join(differences)}\n"
            "Restore the original data, or use another --workdir to train on the new data."
        )
    if there["examples"] != f"{bank.checksum:08x}":
        _warn(
            f"The examples differ from those of the run in {workdir.path}, though their source "
            f"({bank.source or 'unknown'}) does not: made there with {made_there}, here with "
            f"{made_here}. Numbers may differ from those of the run."
        )
    if step := there["from_step"]:
        _warn(f"The run in {workdir.path} recorded its data only from step {step} on.")
    return None


def _in_words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@functools.cache
def _warn(text: str) -> None:
    """Warns once, also if several replicas of a run are opened."""
    logger.warning("%s", text)
