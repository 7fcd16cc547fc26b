"""What a sweep has to run: programs, each of which trains runs of one condition as replicas.

SWEEP/CONDITION/seeds=0-4/    the runs for the verdict; one work directory a program
SWEEP/CONDITION/search/       the search's, where the sweep has one
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections

from emergent_icl.replicas import with_options
from emergent_icl.sweeps.outcomes import Outcome, read_outcomes
from emergent_icl.sweeps.sweep import Search, Sweep
from emergent_icl.workdir import Workdir, WorkdirError

SEARCH_FOLDER = "search"
CHOSEN = "chosen.json"


class Program(NamedTuple):
    """One command of `experiments.train`.

    Attributes:
      name: of its folder below the root.
      workdir: of its runs.
      config: of all of them, with its replicas.
      num_runs: replicas.
      waits_for: the search whose outcome its settings come from; None if they are known.
    """

    name: str
    workdir: Workdir
    config: ml_collections.ConfigDict
    num_runs: int
    waits_for: Workdir | None = None

    def is_complete(self) -> bool:
        """Whether all of its steps are done, and summarised."""
        summary = self.workdir.read_summary()
        return summary is not None and summary["step"] >= self.config.training.num_steps


def make_programs(
    sweep: Sweep, seeds: Sequence[int], root: Path, runs_per_program: int
) -> list[Program]:
    """Every program of a sweep, complete or not.

    Seeds that stand in a folder of the condition already are that folder's; the others are
    dealt out to new programs.

    Args:
      sweep: checked.
      seeds: of the runs for the verdict, the same for every condition.
      root: folder of all sweeps.
      runs_per_program: replicas of a new program, at most.

    Raises:
      SweepError: a condition cannot be run.
      WorkdirError: a folder holds runs of another config.
    """
    programs: list[Program] = []
    for condition in sweep.conditions:
        config, folder = sweep.config(condition), root / sweep.name / condition.name
        waits_for = None
        if sweep.search is not None:
            search = _search_program(sweep.search, config, root, folder)
            programs.append(search)
            if search.is_complete():
                config = with_options(config, chosen_setting(sweep.search, folder).overrides)
            else:
                waits_for = search.workdir
        for workdir, own in _dealt_out(folder, seeds, runs_per_program):
            replicas = [{"name": f"seed={seed}", "training.seed": seed} for seed in own]
            own_config = with_options(config, {"training.replica_overrides": tuple(replicas)})
            name = str(workdir.path.relative_to(root.absolute()))
            programs.append(Program(name, workdir, own_config, len(own), waits_for))
    for program in programs:
        if program.waits_for is None:
            program.workdir.check(program.config)
    return programs


def _search_program(
    search: Search, config: ml_collections.ConfigDict, root: Path, folder: Path
) -> Program:
    workdir = Workdir(folder / SEARCH_FOLDER)
    replicas = tuple(
        {"name": draw_name(index), "training.seed": search.seed, **setting}
        for index, setting in enumerate(search.settings())
    )
    config = with_options(config, {"training.replica_overrides": replicas})
    return Program(str(workdir.path.relative_to(root.absolute())), workdir, config, len(replicas))


def draw_name(index: int) -> str:
    """Name of a draw of a search."""
    return f"draw={index}"


class Chosen(NamedTuple):
    """What a search chose.

    Attributes:
      name: of the draw.
      overrides: its settings.
      draws: every draw -> its outcome.
    """

    name: str
    overrides: dict[str, float]
    draws: dict[str, Outcome]


def chosen_setting(search: Search, folder: Path) -> Chosen:
    """The draw with the greatest measure at its end; the first of equals.

    Args:
      search: complete.
      folder: of the condition.

    Raises:
      WorkdirError: every draw diverged.
    """
    workdir = Workdir(folder / SEARCH_FOLDER)
    outcomes = {outcome.replica: outcome for outcome in read_outcomes(workdir)}
    settings = {draw_name(index): one for index, one in enumerate(search.settings())}
    sound = [name for name in settings if outcomes[name].diverged_at_step is None]
    if not sound:
        raise WorkdirError(f"{workdir.path}: every draw of the search diverged")
    best = max(sound, key=lambda name: outcomes[name].final[search.choose_by])
    return Chosen(best, settings[best], outcomes)


def _dealt_out(
    folder: Path, seeds: Sequence[int], runs_per_program: int
) -> Iterator[tuple[Workdir, list[int]]]:
    """Folders of a condition, each with the seeds that are its replicas."""
    there = dict(_existing(folder))
    taken = {seed for own in there.values() for seed in own}
    for path, own in there.items():
        if set(own) & set(seeds):
            yield Workdir(path), own
    missing = [seed for seed in seeds if seed not in taken]
    for start in range(0, len(missing), runs_per_program):
        own = missing[start : start + runs_per_program]
        yield Workdir(folder / f"seeds={_short(own)}"), own


def _existing(folder: Path) -> Iterator[tuple[Path, list[int]]]:
    for path in sorted(folder.glob("seeds=*")):
        if Workdir(path).config.exists():
            replicas = Workdir(path).read_config().training.replica_overrides
            yield path, [int(replica["training.seed"]) for replica in replicas]


def _short(seeds: Sequence[int]) -> str:
    first, last = seeds[0], seeds[-1]
    if list(seeds) == list(range(first, last + 1)):
        return f"{first}-{last}" if last > first else f"{first}"
    return ",".join(map(str, seeds))
