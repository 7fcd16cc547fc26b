"""What sweeps have to run: jobs, each of which trains runs of one condition as replicas.

SWEEP/CONDITION/seeds=0-4/    the runs for the verdict; one work directory a job
SWEEP/CONDITION/search/       the search's, where the sweep has one
SWEEP/together/seeds=0/       every condition of a sweep that trains them together

Conditions of equal configs, in one sweep or several, have their runs in one folder.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections

from emergent_icl.config.configs import with_options
from emergent_icl.runs.recorded_data import recorded_source
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir, WorkdirError, check_nothing_foreign
from emergent_icl.sweeps.measures import MeasuredRun, more_is_better, read_runs
from emergent_icl.sweeps.spec import SEEDED, Condition, Search, Sweep

SEARCH_FOLDER, TOGETHER = "search", "together"
# What commands leave in a folder before the first job has one.
_BEFORE_A_SWEEP = ("registration.json", "slurm", "*.tmp")
_REPLICAS = "training.replica_overrides"

# Key of a config -> the folders of its runs, each with the seeds that it holds.
_Folders = defaultdict[str, list[tuple[Workdir, list[int]]]]


class Job(NamedTuple):
    """One command that trains, for a condition of a sweep."""

    sweep: str
    condition: str  # '' of a job for all conditions, whose replicas bear their names.
    workdir: Workdir
    config: ml_collections.ConfigDict  # Of all its runs, which are its replicas.
    waits_for: Workdir | None = None  # The search that has not chosen its settings yet.

    @property
    def name(self) -> str:
        """Its folder below the root, SWEEP/CONDITION/FOLDER; equal for jobs that are the same."""
        return "/".join(self.workdir.path.parts[-3:])

    @property
    def num_runs(self) -> int:
        """Replicas."""
        return len(self.config.training.replica_overrides)

    @property
    def is_search(self) -> bool:
        """Whether its runs are a search's draws."""
        return self.workdir.path.name == SEARCH_FOLDER

    def is_complete(self) -> bool:
        """Whether its folder holds its runs, all of their steps done, and summarized."""
        return _has_ended(self.workdir, self.config) and not self.workdir.differences(self.config)

    def check(self) -> None:
        """Raises WorkdirError if its folder holds runs of another config, or longer ones."""
        self.workdir.check(self.config)
        there, asked = last_step(self.workdir.metrics), self.config.training.num_steps
        if there > asked:
            raise WorkdirError(
                f"{self.workdir.path} holds runs of {there} steps, but training.num_steps = "
                f"{asked}; use another --workdir, or at least {there} steps"
            )


def make_jobs(sweeps: Sequence[Sweep], root: Path, runs_per_job: int = 0) -> list[Job]:
    """Every job of every condition, complete or not; several conditions may need the same one.

    A new job has `runs_per_job` replicas at most, or all of a condition. Runs that have begun in a
    condition's own folder go on there. Else they are looked for in any folder below the root that
    is complete and of the same config, and in those that other conditions of these sweeps fill.
    Seeds that are nowhere are dealt out to new jobs.

    Raises SweepError for a condition that cannot be run.
    """
    root = root.absolute()
    folders = _complete_folders(root)
    settings = [
        _settle(sweep, one, root, folders)
        for sweep in sweeps
        if not sweep.together
        for one in sweep.conditions
    ]
    for setting in settings:
        folders[setting.key] += _begun(setting.folder)
    jobs = [job for sweep in sweeps if sweep.together for job in _together(sweep, root)]
    for setting in settings:
        jobs += [setting.search] if setting.search else []
        for workdir, own in _dealt_out(setting, runs_per_job, folders):
            config = with_options(setting.config, {_REPLICAS: setting.sweep.replicas(own)})
            job = Job(setting.sweep.name, setting.condition, workdir, config, setting.waits_for)
            jobs.append(job)
    return jobs


def check_root(root: Path) -> None:
    """Raises WorkdirError for a folder of something else, which results might overwrite.

    One in which a sweep has begun may hold what it likes.
    """
    has_begun = any(next(root.glob(f"*/*/{name}"), None) for name in ("seeds=*", SEARCH_FOLDER))
    if not has_begun:
        check_nothing_foreign(root, _BEFORE_A_SWEEP)


def check_same_data(jobs: Iterable[Job]) -> None:
    """Jobs whose configs name the same data, and which are compared, were trained on the same.

    Raises WorkdirError if their records differ: a file was changed between them.
    """
    first: dict[str, tuple[str, Job]] = {}
    for job in jobs:
        data = job.config.data.to_dict()
        named = json.dumps([data["source"], data.get(data["source"])], sort_keys=True)
        source = recorded_source(job.workdir)
        there, other = first.setdefault(named, (source, job)) if source else ("", job)
        if there != source:
            raise WorkdirError(
                f"runs of a sweep were trained on different data under one name: {there!r} in "
                f"{other.workdir.path}, {source!r} in {job.workdir.path}\n"
                "Remove the folders that were trained on the wrong data, and rerun the command."
            )


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each job once; those that others wait for come first."""
    once: dict[str, Job] = {}
    for job in jobs:
        once.setdefault(job.name, job)
    waited_for = {job.waits_for.path for job in once.values() if job.waits_for is not None}
    return sorted(once.values(), key=lambda job: job.workdir.path not in waited_for)


def config_key(config: ml_collections.ConfigDict) -> str:
    """Equal for equal configs, which give equal runs, bit for bit."""
    return json.dumps(config.to_dict(), sort_keys=True)


def _complete_folders(root: Path) -> _Folders:
    """Complete folders below a root, whichever sweeps they belong to."""
    folders: _Folders = defaultdict(list)
    searches = sorted(root.glob(f"*/*/{SEARCH_FOLDER}"))
    for workdir in map(Workdir, [*sorted(root.glob("*/*/seeds=*")), *searches]):
        if workdir.config.exists() and _has_ended(workdir, config := workdir.read_config()):
            if workdir.path.name == SEARCH_FOLDER:
                folders[config_key(config)].append((workdir, []))
            else:
                own = {*(*config.training.replica_overrides, {})[0]} - {"name"}
                folders[_shared_key(config, own)].append((workdir, _seeds_of(config)))
    return folders


def _shared_key(config: ml_collections.ConfigDict, seeded: Iterable[str]) -> str:
    """Equal for configs that are equal but for a replicate's seeds, and seed the same options."""
    return config_key(with_options(config, {_REPLICAS: tuple(sorted(seeded))}))


class _Setting(NamedTuple):
    """A condition with what its search chose; `key` is equal for those of equal runs."""

    sweep: Sweep
    condition: str
    folder: Path
    config: ml_collections.ConfigDict
    key: str
    search: Job | None = None
    waits_for: Workdir | None = None


def _settle(sweep: Sweep, condition: Condition, root: Path, folders: _Folders) -> _Setting:
    config = with_options(sweep.config(condition), {_REPLICAS: ()})
    folder = root / sweep.name / condition.name
    seeded = SEEDED[sweep.split]
    setting = _Setting(sweep, condition.name, folder, config, _shared_key(config, seeded))
    if sweep.search is None:
        return setting
    replicas = tuple(
        {"name": f"draw={index}", **dict.fromkeys(seeded, sweep.search.seed), **overrides}
        for index, overrides in enumerate(sweep.search.settings())
    )
    search_config = with_options(sweep.search_config(condition), {_REPLICAS: replicas})
    there, own = folders[config_key(search_config)], Workdir(folder / SEARCH_FOLDER)
    if own.config.exists() or not there:
        there.append((own, []))
    else:
        own = there[0][0]
    search = Job(sweep.name, condition.name, own, search_config)
    chosen = chosen_draw(sweep.search, search) if search.is_complete() else None
    if chosen is None:
        key = f"{search.name} {setting.key}"
        return setting._replace(key=key, search=search, waits_for=search.workdir)
    config = with_options(config, chosen.overrides)
    return setting._replace(config=config, key=_shared_key(config, seeded), search=search)


class Draw(NamedTuple):
    """A setting that a search tried, and what came of it."""

    overrides: dict[str, float]  # {option: value}
    run: MeasuredRun


def draws(search: Search, job: Job) -> list[Draw]:
    """Every setting with what came of it; the job is the search's, and complete."""
    pairs = zip(search.settings(), read_runs(job.workdir), strict=True)
    return [Draw(overrides, run) for overrides, run in pairs]


def chosen_draw(search: Search, job: Job) -> Draw | None:
    """The draw that ends best by its measure, the first of equals; None if all diverged."""
    sound = [one for one in draws(search, job) if one.run.diverged_at_step is None]
    best = max if more_is_better(search.choose_by) else min
    return best(sound, key=lambda draw: draw.run.final[search.choose_by], default=None)


def _dealt_out(
    setting: _Setting, runs_per_job: int, folders: _Folders
) -> Iterator[tuple[Workdir, list[int]]]:
    """Folders of a condition, its own first, each with the seeds that are its replicas."""
    missing = list(setting.sweep.seeds)
    for workdir, own in [*_begun(setting.folder), *folders[setting.key]]:
        if set(own) & set(missing):
            yield workdir, own
            missing = [seed for seed in missing if seed not in own]
    at_once = runs_per_job or max(len(missing), 1)
    for start in range(0, len(missing), at_once):
        own = missing[start : start + at_once]
        workdir = Workdir(setting.folder / f"seeds={_short(own)}")
        folders[setting.key].append((workdir, own))
        yield workdir, own


def _together(sweep: Sweep, root: Path) -> Iterator[Job]:
    """A job for each seed, of all conditions."""
    for seed in sweep.seeds:
        workdir = Workdir(root / sweep.name / TOGETHER / f"seeds={seed}")
        yield Job(sweep.name, "", workdir, sweep.together_config(seed))


def _begun(folder: Path) -> list[tuple[Workdir, list[int]]]:
    """Folders of a condition in which runs have begun."""
    workdirs = [Workdir(path) for path in sorted(folder.glob("seeds=*"))]
    return [(one, _seeds_of(one.read_config())) for one in workdirs if one.config.exists()]


def _has_ended(workdir: Workdir, config: ml_collections.ConfigDict) -> bool:
    summary = workdir.read_summary()
    return summary is not None and summary["step"] == config.training.num_steps


def _seeds_of(config: ml_collections.ConfigDict) -> list[int]:
    return [int(replica["training.seed"]) for replica in config.training.replica_overrides]


def _short(seeds: Sequence[int]) -> str:
    first, last = seeds[0], seeds[-1]
    if list(seeds) == list(range(first, last + 1)):
        return f"{first}-{last}" if last > first else f"{first}"
    return ",".join(map(str, seeds))
