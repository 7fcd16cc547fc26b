"""Jobs of sweeps: each trains runs of one condition as replicas.

SWEEP/CONDITION/seeds=0-4/    runs for the verdict; each folder is the work directory of a job
SWEEP/CONDITION/search/       the draws of the search, if there is one
SWEEP/together/seeds=0/       every condition of a sweep that trains them together

Conditions with equal configs, in one sweep or several, share the folder of their runs.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from emergent_icl.config.configs import with_options
from emergent_icl.runs.initial import check_sources
from emergent_icl.runs.recorded_data import recorded_source
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir, WorkdirError, check_nothing_foreign
from emergent_icl.sweeps.measures import MeasuredRun, more_is_better, read_runs
from emergent_icl.sweeps.spec import SEEDED, Condition, Search, Sweep
from emergent_icl.training.cost import step_cost
from emergent_icl.training.replicas import make_replicas

SEARCH_FOLDER, TOGETHER = "search", "together"
# Seconds from launch to the first step with a warm compilation cache: mostly imports.
LAUNCH_SECONDS = 10.0
# An evaluation has no gradients: about a third of a training step's operations.
EVALUATION_SHARE = 1 / 3
# Files that commands create before the first job begins.
_BEFORE_A_SWEEP = ("registration.json", "slurm", "dry_run", "*.tmp")
_REPLICAS = "training.replica_overrides"

# Key of a config -> the folders of its runs, each with its seeds.
_Folders = defaultdict[str, list[tuple[Workdir, list[int]]]]


class Job(NamedTuple):
    """One training command for a condition of a sweep."""

    sweep: str
    condition: str  # '' if it trains all conditions, as replicas with their names.
    workdir: Workdir
    config: ConfigDict  # Its replicas are the runs.
    waits_for: Workdir | None = None  # The incomplete search that will choose its settings.

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
        return self.workdir.path.name == SEARCH_FOLDER

    def is_complete(self) -> bool:
        """Whether its folder contains these runs, complete and with a summary."""
        return _has_ended(self.workdir, self.config) and not self.workdir.differences(self.config)

    def check(self) -> None:
        """Raises WorkdirError if its runs cannot start.

        The folder may contain another config or longer runs, or initial weights may be missing.
        """
        self.workdir.check(self.config)
        check_sources(self.config, self.workdir)
        found, steps = last_step(self.workdir.metrics), self.config.training.num_steps
        if found > steps:
            raise WorkdirError(
                f"{self.workdir.path} contains runs of {found} steps, but training.num_steps = "
                f"{steps}; use another --workdir, or at least {found} steps"
            )


def make_jobs(sweeps: Sequence[Sweep], root: Path, runs_per_job: int = 0) -> list[Job]:
    """All jobs of all conditions, complete or not; several conditions may need the same one.

    A new job has at most `runs_per_job` replicas; 0: all of a condition. Runs that have begun in a
    condition's own folder stay there. For the others, complete folders of the same config below the
    root are reused, then jobs of other conditions of these sweeps; the rest get new jobs. Raises
    SweepError if a condition cannot be run.
    """
    root = root.absolute()
    folders = _complete_folders(root)
    settings, jobs = [], []
    for sweep in sweeps:
        if not sweep.together:
            settings += [_settle(sweep, one, root, folders) for one in sweep.conditions]
            continue
        for seed in sweep.seeds:
            workdir = Workdir(root / sweep.name / TOGETHER / f"seeds={seed}")
            jobs.append(Job(sweep.name, "", workdir, sweep.together_config(seed)))
    for setting in settings:
        folders[setting.key] += _begun(setting.folder)
    for setting in settings:
        jobs += [setting.search] if setting.search else []
        for workdir, own in _assigned(setting, runs_per_job, folders):
            config = with_options(setting.config, {_REPLICAS: setting.sweep.replicas(own)})
            job = Job(setting.sweep.name, setting.condition, workdir, config, setting.waits_for)
            jobs.append(job)
    return jobs


def check_root(root: Path) -> None:
    """Raises WorkdirError if a folder contains other files, unless a sweep has begun there."""
    if not any(root.glob("*/*/seeds=*")) and not any(root.glob(f"*/*/{SEARCH_FOLDER}")):
        check_nothing_foreign(root, _BEFORE_A_SWEEP)


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


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each job once; those that others wait for come first."""
    once: dict[str, Job] = {}
    for job in jobs:
        once.setdefault(job.name, job)
    waited_for = {job.waits_for.path for job in once.values() if job.waits_for is not None}
    return sorted(once.values(), key=lambda job: job.workdir.path not in waited_for)


def config_key(config: ConfigDict) -> str:
    """A key that is equal for equal configs, whose runs are identical to the bit."""
    return json.dumps(config.to_dict(), sort_keys=True)


class Draw(NamedTuple):
    """A setting tried by a search, and the result."""

    overrides: dict[str, float]  # {option: value}
    run: MeasuredRun


def draws(search: Search, job: Job) -> list[Draw]:
    """All settings with their results, from the complete job of the search."""
    pairs = zip(search.settings(), read_runs(job.workdir), strict=True)
    return [Draw(overrides, run) for overrides, run in pairs]


def chosen_draw(search: Search, job: Job) -> Draw | None:
    """The draw with the best final measure, the first one if tied; None if all diverged."""
    sound = [one for one in draws(search, job) if one.run.diverged_at_step is None]
    best = max if more_is_better(search.choose_by) else min
    return best(sound, key=lambda draw: draw.run.final[search.choose_by], default=None)


class JobTime(NamedTuple):
    """The estimated time of a job."""

    seconds: float  # From launch to the last step of all its runs.
    steps: int  # Per run.
    step_seconds: float  # Per step of one run.


def job_time(job: Job, step_seconds: float) -> JobTime:
    """The estimated time of a job, given that of a training step of one of its runs."""
    config = job.config
    steps, batches = config.training.num_steps, config.evaluation.num_sequences
    batches /= config.training.batch_size
    evaluations = math.ceil(steps / config.evaluation.every) * len(config.evaluation.modes)
    all_steps = steps + EVALUATION_SHARE * evaluations * batches
    return JobTime(LAUNCH_SECONDS + job.num_runs * step_seconds * all_steps, steps, step_seconds)


def estimate(jobs: Iterable[Job]) -> dict[str, JobTime]:
    """Estimated time of each job, by name; times one step per shape of model and batch."""
    timed: dict[tuple[object, ...], float | None] = {}
    times = {}
    for job in jobs:
        config, task = (replica := make_replicas(job.config)[0]).config, replica.task
        shape = (
            config.model.to_json(), config.training.batch_size, task.shape.example_shape,
            task.training.seq_len, task.num_labels,
        )  # fmt: skip
        if (seconds := timed.get(shape)) is None:
            seconds = timed[shape] = step_cost(config, task, timed=True).step_seconds
            assert seconds is not None
        times[job.name] = job_time(job, seconds)
    return times


class _Setting(NamedTuple):
    """A condition with the setting chosen by its search; equal keys mean equal runs."""

    sweep: Sweep
    condition: str
    folder: Path
    config: ConfigDict
    key: str
    search: Job | None = None
    waits_for: Workdir | None = None


def _settle(sweep: Sweep, condition: Condition, root: Path, folders: _Folders) -> _Setting:
    config = with_options(sweep.config(condition), {_REPLICAS: ()})
    folder, seeded = root / sweep.name / condition.name, SEEDED[sweep.split]
    setting = _Setting(sweep, condition.name, folder, config, _shared_key(config, seeded))
    if sweep.search is None:
        return setting
    replicas = tuple(
        {"name": f"draw={index}", **dict.fromkeys(seeded, sweep.search.seed), **overrides}
        for index, overrides in enumerate(sweep.search.settings())
    )
    search_config = with_options(sweep.search_config(condition), {_REPLICAS: replicas})
    found, own = folders[config_key(search_config)], Workdir(folder / SEARCH_FOLDER)
    if own.config.exists() or not found:
        found.append((own, []))
    else:
        own = found[0][0]
    search = Job(sweep.name, condition.name, own, search_config)
    chosen = chosen_draw(sweep.search, search) if search.is_complete() else None
    if chosen is None:
        key = f"{search.name} {setting.key}"
        return setting._replace(key=key, search=search, waits_for=search.workdir)
    config = with_options(config, chosen.overrides)
    return setting._replace(config=config, key=_shared_key(config, seeded), search=search)


def _assigned(
    setting: _Setting, runs_per_job: int, folders: _Folders
) -> Iterator[tuple[Workdir, list[int]]]:
    """Folders of a condition, its own first, each with the seeds of its replicas."""
    missing = list(setting.sweep.seeds)
    for workdir, own in [*_begun(setting.folder), *folders[setting.key]]:
        if set(own) & set(missing):
            yield workdir, own
            missing = [seed for seed in missing if seed not in own]
    at_once = runs_per_job or max(len(missing), 1)
    for start in range(0, len(missing), at_once):
        own = missing[start : start + at_once]
        name = ",".join(map(str, own))
        if len(own) > 1 and own == list(range(own[0], own[-1] + 1)):
            name = f"{own[0]}-{own[-1]}"
        workdir = Workdir(setting.folder / f"seeds={name}")
        folders[setting.key].append((workdir, own))
        yield workdir, own


def _complete_folders(root: Path) -> _Folders:
    """All complete folders of any sweep below a root."""
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


def _shared_key(config: ConfigDict, seeded: Iterable[str]) -> str:
    """A key that is equal for configs whose replicates differ only in the values of seeds."""
    return config_key(with_options(config, {_REPLICAS: tuple(sorted(seeded))}))


def _begun(folder: Path) -> list[tuple[Workdir, list[int]]]:
    """Folders of a condition in which runs have begun."""
    workdirs = [Workdir(path) for path in sorted(folder.glob("seeds=*"))]
    return [(one, _seeds_of(one.read_config())) for one in workdirs if one.config.exists()]


def _has_ended(workdir: Workdir, config: ConfigDict) -> bool:
    summary = workdir.read_summary()
    return summary is not None and summary["step"] == config.training.num_steps


def _seeds_of(config: ConfigDict) -> list[int]:
    return [int(replica["training.seed"]) for replica in config.training.replica_overrides]
