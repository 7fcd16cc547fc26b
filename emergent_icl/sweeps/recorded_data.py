"""The data of a sweep's runs: one name must mean the same data."""

import json
from collections.abc import Callable, Iterable

from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.sources.source import load_bank
from emergent_icl.runs.recorded_data import OtherDataError, recorded_source
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.jobs import Job
from emergent_icl.sweeps.spec import Sweep


def check_same_data(jobs: Iterable[Job]) -> None:
    """Checks that jobs whose configs name the same data were trained on the same data.

    Raises WorkdirError if their records differ because a file changed between them.
    """
    first: dict[str, tuple[str, Job]] = {}
    for job in jobs:
        data = job.config.data.to_dict()
        named = json.dumps([data["source"], data.get(data["source"])], sort_keys=True)
        source = recorded_source(job.workdir)
        found, other = first.setdefault(named, (source, job)) if source else ("", job)
        if found != source:
            raise WorkdirError(
                f"runs of a sweep were trained on different data under one name: {found!r} in "
                f"{other.workdir.path}, {source!r} in {job.workdir.path}\n"
                "Remove the folders that were trained on the wrong data, and rerun the command."
            )


def check_moved_data(jobs: Iterable[Job]) -> None:
    """Reads data that a sweep names by another path than its complete runs, to compare both.

    Raises:
      OtherDataError: complete runs were trained on other data, and would be reported under a wrong
        name.
      DataUnavailableError: the data cannot be read.
    """
    source_of = _reader()
    for job in jobs:
        path = f"data.{job.config.data.source}.path"
        recorded = recorded_source(job.workdir) if job.is_complete() else ""
        if not recorded or _at(path, job.workdir.read_config()) == (here := _at(path, job.config)):
            continue
        if (found := source_of(job.config.data)) != recorded:
            raise OtherDataError(
                f"{job.workdir.path} holds runs trained on other data than {path} = {here!r}: "
                f"{recorded!r} there, {found!r} here\n"
                "Name the original data, or use another --workdir to train on the new data."
            )


def own_data(sweep: Sweep) -> dict[str, str]:
    """Reads the user's own files that a sweep names: {condition: what its runs will record}.

    Raises DataUnavailableError if they cannot be read.
    """
    source_of, found = _reader(), {}
    for condition in sweep.conditions:
        config = sweep.config(condition)
        named = _at(f"data.{config.data.source}.path", config)
        if named and (source := source_of(config.data)):
            found[condition.name] = source
    return found


def _reader() -> Callable[[ConfigDict], str | None]:
    """A function: config.data -> the description of its source; reads each source once."""
    known: dict[str, str | None] = {}

    def source_of(data: ConfigDict) -> str | None:
        read = (data.source, *DATA_SOURCES[data.source].reads)
        named = json.dumps([data.source, *(data.to_dict().get(name) for name in read)])
        if named not in known:
            known[named] = load_bank(data).source
        return known[named]

    return source_of


def _at(path: str, config: ConfigDict) -> str | None:
    return flatten(config.to_dict()).get(path)
