"""Jobs of sweeps: each trains runs of one condition as replicas.

SWEEP/CONDITION/seeds=0-4/    runs for the verdict; each folder is the work directory of a job
SWEEP/CONDITION/search/       the draws of the search, if there is one
SWEEP/CONDITION/draws=0-4/    some of them, if they are split
SWEEP/together/seeds=0/       every condition of a sweep that trains them together

Conditions with equal configs, in one sweep or several, share the folder of their runs.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten, is_resumable, with_options
from emergent_icl.evaluation.measures import more_is_better
from emergent_icl.runs.initial import check_sources
from emergent_icl.runs.records import last_step
from emergent_icl.runs.summaries import has_diverged
from emergent_icl.runs.workdir import Workdir, WorkdirError, check_nothing_foreign
from emergent_icl.sweeps.evidence import MeasuredRun, read_runs
from emergent_icl.sweeps.search import Search, draw_name
from emergent_icl.sweeps.spec import SEEDED, Condition, Sweep

SEARCH_FOLDER, TOGETHER = "search", "together"
_SEARCHES = (SEARCH_FOLDER, "draws=*")
# Files that commands create before the first job begins.
_BEFORE_A_SWEEP = ("registration.json", "slurm", "dry_run", "*.tmp")
_REPLICAS = "training.replica_overrides"
# Runs record the first, and choose the second, which only affects rounding.
_CHOSEN_BY_RUNS = ("training.initial.checksum", "training.steps_per_call")

# Key of a config -> the folders of its runs, each with its seeds, or with its draws. `make_jobs`
# adds to it condition by condition, so that a later condition reuses folders of earlier ones.
_Folders = defaultdict[str, list[tuple[Workdir, list[int]]]]


class Job(NamedTuple):
    """One training command for a condition of a sweep."""

    sweep: str
    condition: str  # '' if it trains all conditions, as replicas with their names.
    workdir: Workdir
    config: ConfigDict  # Its replicas are the runs.
    waits_for: Sequence[Workdir] = ()  # The incomplete searches that will choose its settings.

    @property
    def name(self) -> str:
        """Its folder below the root, SWEEP/CONDITION/FOLDER; equal jobs have equal names."""
        return "/".join(self.workdir.path.parts[-3:])

    @property
    def num_runs(self) -> int:
        """The number of its replicas."""
        return len(self.config.training.replica_overrides)

    @property
    def is_search(self) -> bool:
        """Whether its runs are the draws of a search."""
        return any(self.workdir.path.match(name) for name in _SEARCHES)

    def is_complete(self) -> bool:
        """Whether its folder contains these runs, complete or diverged, with a summary."""
        ended = _has_ended(self.workdir, self.config)
        return ended and not self.workdir.differences(self.config) and not self._left_open()

    def check(self) -> None:
        """Raises WorkdirError if its runs cannot start, or be judged.

        The folder may contain another config, longer runs, or incomplete metrics, or initial
        weights may be missing.
        """
        self.workdir.check(self.config)
        if left_open := "\n  ".join(
            f"{path}: {old!r} there, unset here" for path, old in self._left_open().items()
        ):
            raise WorkdirError(
                f"{self.workdir.path} holds runs with another config:\n  {left_open}\n"
                "Use another --workdir, or the same values (--set=OPTION=VALUE)."
            )
        if self.is_complete():
            read_runs(self.workdir)
        check_sources(self.config, self.workdir)
        found, steps = last_step(self.workdir.metrics), self.config.training.num_steps
        if found > steps:
            raise WorkdirError(
                f"{self.workdir.path} contains runs of {found} steps, but training.num_steps = "
                f"{steps}; use another --workdir, or at least {found} steps"
            )

    def claim(self) -> None:
        """Writes the config with which its program starts, or resumes what has begun."""
        config, _ = self.workdir.resumed(self.config)
        self.workdir.claim(config)

    def _left_open(self) -> dict[str, Any]:
        """Options that the sweep leaves unset -> other values with which its runs were measured.

        A single run keeps such values, but a sweep reports those of its own config.
        """
        _, kept = self.workdir.resumed(self.config)
        given = flatten(self.config.to_dict())
        return {
            path: value
            for path, value in kept.items()
            if given[path] is None and path not in _CHOSEN_BY_RUNS and not is_resumable(path)
        }


def make_jobs(sweeps: Sequence[Sweep], root: Path, runs_per_job: int = 0) -> list[Job]:
    """All jobs of all conditions, complete or not; several conditions may need the same one.

    A new job has at most `runs_per_job` replicas; 0: all of a condition, or of its search. Runs
    that have begun in a condition's own folder stay there. For the others, complete folders of the
    same config below the root are reused, then jobs of other conditions of these sweeps; the rest
    get new jobs. Raises SweepError if a condition cannot be run.
    """
    root = root.absolute()
    folders = _complete_folders(root)
    settings, jobs = [], []
    for sweep in sweeps:
        if not sweep.together:
            settings += [
                _settle(sweep, one, root, runs_per_job, folders) for one in sweep.conditions
            ]
            continue
        for seed in sweep.seeds:
            workdir = Workdir(root / sweep.name / TOGETHER / f"seeds={seed}")
            jobs.append(Job(sweep.name, "", workdir, sweep.together_config(seed)))
    for setting in settings:
        folders[setting.key] += _begun(setting.folder)
    for setting in settings:
        jobs += setting.searches
        for workdir, own in _assigned(setting, runs_per_job, folders):
            config = with_options(setting.config, {_REPLICAS: setting.sweep.replicas(own)})
            job = Job(setting.sweep.name, setting.condition, workdir, config, setting.waits_for)
            jobs.append(job)
    return jobs


def check_root(root: Path) -> None:
    """Raises WorkdirError if a folder contains other files, unless a sweep has begun there."""
    if not any(any(root.glob(f"*/*/{name}")) for name in ("seeds=*", *_SEARCHES)):
        check_nothing_foreign(root, _BEFORE_A_SWEEP)


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each job once; those that others wait for come first."""
    once: dict[str, Job] = {}
    for job in jobs:
        once.setdefault(job.name, job)
    waited_for = {one.path for job in once.values() for one in job.waits_for}
    return sorted(once.values(), key=lambda job: job.workdir.path not in waited_for)


def config_key(config: ConfigDict) -> str:
    """A key that is equal for equal configs, whose runs are identical to the bit."""
    return json.dumps(config.to_dict(), sort_keys=True)


class Draw(NamedTuple):
    """A setting tried by a search, and the result."""

    overrides: dict[str, float]  # {option: value}
    run: MeasuredRun


def draws(search: Search, jobs: Sequence[Job]) -> list[Draw]:
    """All settings with their results, from the complete jobs of the search."""
    found = {run.replica: run for job in jobs for run in read_runs(job.workdir)}
    return [
        Draw(overrides, found[draw_name(index)])
        for index, overrides in enumerate(search.settings())
    ]


def chosen_draw(search: Search, jobs: Sequence[Job]) -> Draw | None:
    """The draw with the best final measure, the first one if tied; None if all diverged."""
    sound = [one for one in draws(search, jobs) if one.run.diverged_at_step is None]
    best = max if more_is_better(search.choose_by) else min
    return best(sound, key=lambda draw: draw.run.final[search.choose_by], default=None)


class _Setting(NamedTuple):
    """A condition with the setting chosen by its search; equal keys mean equal runs."""

    sweep: Sweep
    condition: str
    folder: Path
    config: ConfigDict
    key: str
    searches: Sequence[Job] = ()
    waits_for: Sequence[Workdir] = ()


def _settle(
    sweep: Sweep, condition: Condition, root: Path, runs_per_job: int, folders: _Folders
) -> _Setting:
    config = with_options(sweep.config(condition), {_REPLICAS: ()})
    folder, seeded = root / sweep.name / condition.name, SEEDED[sweep.split]
    setting = _Setting(sweep, condition.name, folder, config, _shared_key(config, seeded))
    if sweep.search is None:
        return setting
    searches = list(_searches(sweep, condition, folder, runs_per_job, folders))
    is_complete = all(job.is_complete() for job in searches)
    chosen = chosen_draw(sweep.search, searches) if is_complete else None
    if chosen is None:
        key = " ".join([*(job.name for job in searches), setting.key])
        waits_for = [job.workdir for job in searches]
        return setting._replace(key=key, searches=searches, waits_for=waits_for)
    config = with_options(config, chosen.overrides)
    return setting._replace(config=config, key=_shared_key(config, seeded), searches=searches)


def _searches(
    sweep: Sweep, condition: Condition, folder: Path, runs_per_job: int, folders: _Folders
) -> Iterator[Job]:
    """Jobs that train the draws of a condition: those in its folder, then the others."""
    replicas = sweep.search_replicas()
    whole, everything = sweep.search_config(condition), list(range(len(replicas)))
    keys = [_draw_key(whole, replica) for replica in replicas]
    begun = [Workdir(path) for name in _SEARCHES for path in sorted(folder.glob(name))]
    places = {one.path: _draws_of(one.read_config()) for one in begun if one.config.exists()}
    for index, key in enumerate(keys):
        if folders[key] and not any(index in own for own in places.values()):
            workdir, own = folders[key][0]
            places[workdir.path] = own
    taken = {index for own in places.values() for index in own}
    for own in _shares([index for index in everything if index not in taken], runs_per_job):
        name = SEARCH_FOLDER if own == everything else f"draws={_in_words(own)}"
        places[folder / name] = own
    for path, found in places.items():
        # A folder with other draws is that of another search, which the job's check reports.
        own = found if set(found) <= set(everything) else everything
        for index in own:
            folders[keys[index]].append((Workdir(path), own))
        config = with_options(whole, {_REPLICAS: tuple(replicas[index] for index in own)})
        yield Job(sweep.name, condition.name, Workdir(path), config)


def _draw_key(config: ConfigDict, replica: Mapping[str, Any]) -> str:
    """A key that is equal for equal draws, however they are split."""
    return config_key(with_options(config, {_REPLICAS: (replica,)}))


def _shares(indices: list[int], most: int) -> Iterator[list[int]]:
    """Consecutive parts of at most `most` indices; 0: all of them."""
    at_once = most or max(len(indices), 1)
    for start in range(0, len(indices), at_once):
        yield indices[start : start + at_once]


def _in_words(indices: Sequence[int]) -> str:
    """'0-4' for consecutive numbers, otherwise '0,2'."""
    first, last = indices[0], indices[-1]
    if len(indices) > 1 and list(indices) == list(range(first, last + 1)):
        return f"{first}-{last}"
    return ",".join(map(str, indices))


def _assigned(
    setting: _Setting, runs_per_job: int, folders: _Folders
) -> Iterator[tuple[Workdir, list[int]]]:
    """Folders of a condition, its own first, each with the seeds of its replicas."""
    missing = list(setting.sweep.seeds)
    for workdir, own in [*_begun(setting.folder), *folders[setting.key]]:
        if set(own) & set(missing):
            yield workdir, own
            missing = [seed for seed in missing if seed not in own]
    for own in _shares(missing, runs_per_job):
        workdir = Workdir(setting.folder / f"seeds={_in_words(own)}")
        folders[setting.key].append((workdir, own))
        yield workdir, own


def _complete_folders(root: Path) -> _Folders:
    """All complete folders of any sweep below a root."""
    folders: _Folders = defaultdict(list)
    searches = [path for name in _SEARCHES for path in sorted(root.glob(f"*/*/{name}"))]
    for workdir in map(Workdir, [*sorted(root.glob("*/*/seeds=*")), *searches]):
        if workdir.config.exists() and _has_ended(workdir, config := workdir.read_config()):
            if workdir.path in searches:
                for replica in config.training.replica_overrides:
                    folders[_draw_key(config, replica)].append((workdir, _draws_of(config)))
            else:
                own = {*next(iter(config.training.replica_overrides), {})} - {"name"}
                folders[_shared_key(config, own)].append((workdir, _seeds_of(config)))
    return folders


def _shared_key(config: ConfigDict, seeded: Iterable[str]) -> str:
    """A key that is equal for configs whose replicates differ only in the values of seeds."""
    return config_key(with_options(config, {_REPLICAS: tuple(sorted(seeded))}))


def _begun(folder: Path) -> list[tuple[Workdir, list[int]]]:
    """Folders of a condition in which runs have begun."""
    workdirs = [Workdir(path) for path in sorted(folder.glob("seeds=*"))]
    return [(one, _seeds_of(one.read_config())) for one in workdirs if one.config.exists()]


def _has_ended(workdir: Workdir, config: ConfigDict) -> bool:
    """Whether the runs reached their last step, or all diverged before."""
    summary = workdir.read_summary()
    if summary is None:
        return False
    last = config.training.num_steps
    return summary["step"] == last or (has_diverged(summary) and summary["step"] < last)


def _seeds_of(config: ConfigDict) -> list[int]:
    return [int(replica["training.seed"]) for replica in config.training.replica_overrides]


def _draws_of(config: ConfigDict) -> list[int]:
    """Indices of draws; -1 for another name."""
    numbers = (replica["name"].partition("=")[2] for replica in config.training.replica_overrides)
    return [int(number) if number.isdecimal() else -1 for number in numbers]
