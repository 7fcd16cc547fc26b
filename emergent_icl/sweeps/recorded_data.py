"""The data of a sweep's runs: one name must mean the same data."""

import json
from collections.abc import Iterable

from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.sources.source import load_bank
from emergent_icl.runs.recorded_data import OtherDataError, recorded_source
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.jobs import Job


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
    sources: dict[str, str | None] = {}
    for job in jobs:
        path, data = f"data.{job.config.data.source}.path", job.config.data
        recorded = recorded_source(job.workdir) if job.is_complete() else ""
        if not recorded or _at(path, job.workdir.read_config()) == (here := _at(path, job.config)):
            continue
        read = (data.source, *DATA_SOURCES[data.source].reads)
        named = json.dumps([data.source, *(data.to_dict().get(name) for name in read)])
        if named not in sources:
            sources[named] = load_bank(data).source
        if sources[named] != recorded:
            raise OtherDataError(
                f"{job.workdir.path} holds runs trained on other data than {path} = {here!r}: "
                f"{recorded!r} there, {sources[named]!r} here\n"
                "Name the original data, or use another --workdir to train on the new data."
            )


def _at(path: str, config: ConfigDict) -> str | None:
    return flatten(config.to_dict()).get(path)
