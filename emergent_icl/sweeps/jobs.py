"""What a sweep has to run: programs, each of which trains runs of one condition as replicas.

SWEEP/CONDITION/seeds=0-4/    the runs for the verdict; one work directory a program
SWEEP/CONDITION/search/       the search's, where the sweep has one
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections

from emergent_icl.config.configs import with_options
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.outcomes import Outcome, read_outcomes
from emergent_icl.sweeps.spec import Condition, Search, Sweep

SEARCH_FOLDER = "search"


class Program(NamedTuple):
    """One command of `experiments.train`.

    Attributes:
      name: of its folder below the root.
      workdir: of its runs.
      config: of all of them, with its replicas.
      num_runs: replicas.
      waits_for: the search that has no outcome yet for its settings; None if they are known.
      twin: a program of the same config, whose runs are its own too; None if it has to run.
    """

    name: str
    workdir: Workdir
    config: ml_collections.ConfigDict
    num_runs: int
    waits_for: Workdir | None = None
    twin: Program | None = None

    def identity(self) -> str:
        """Equal for programs that train the same runs."""
        return json.dumps(self.config.to_dict(), sort_keys=True)

    def is_complete(self) -> bool:
        """Whether its folder holds its runs, all of their steps done, and summarised."""
        summary = self.workdir.read_summary()
        if summary is None or summary["step"] != self.config.training.num_steps:
            return False
        return not self.workdir.differences(self.config)

    def check(self) -> None:
        """Checks that its folder, if there is one, holds its runs or a part of them.

        Raises:
          WorkdirError: it holds runs of another config, or longer ones.
        """
        self.workdir.check(self.config)
        there, asked = last_step(self.workdir.metrics), self.config.training.num_steps
        if there > asked:
            raise WorkdirError(
                f"{self.workdir.path} holds runs of {there} steps, but training.num_steps = "
                f"{asked}; use another --workdir, or at least {there} steps"
            )


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
    """
    programs: list[Program] = []
    for condition in sweep.conditions:
        config, folder = sweep.config(condition), root / sweep.name / condition.name
        waits_for = None
        if sweep.search is not None:
            search = search_program(sweep, condition, root)
            programs.append(search)
            chosen = chosen_draw(sweep.search, search) if search.is_complete() else None
            if chosen is None:
                waits_for = search.workdir
            else:
                config = with_options(config, chosen.overrides)
        for workdir, own in _dealt_out(folder, seeds, runs_per_program):
            replicas = [{"name": f"seed={seed}", "training.seed": seed} for seed in own]
            own_config = with_options(config, {"training.replica_overrides": tuple(replicas)})
            programs.append(Program(_name(workdir, root), workdir, own_config, len(own), waits_for))
    return programs


def with_twins(programs: Sequence[Program], root: Path) -> list[Program]:
    """The same programs; of those with one config, one runs and the others are its twins.

    Findings have conditions in common, and equal configs give equal runs, bit for bit. What has
    a folder already is nobody's twin.

    Args:
      programs: of all sweeps that are run together.
      root: folder of all sweeps; one that is not run now may have the runs of one that is.
    """
    runs = {program.identity(): program for program in _complete_programs(root)}
    # What is complete need not run at all, and what has begun will go on.
    for program in sorted(programs, key=_how_far, reverse=True):
        if program.waits_for is None:
            runs.setdefault(program.identity(), program)

    def twin(program: Program) -> Program | None:
        if program.waits_for is not None or program.workdir.config.exists():
            return None
        found = runs[program.identity()]
        return None if found.name == program.name else found

    return [program._replace(twin=twin(program)) for program in programs]


def _complete_programs(root: Path) -> Iterator[Program]:
    for path in sorted(root.glob("*/*/seeds=*")):
        workdir = Workdir(path)
        if workdir.config.exists():
            config = workdir.read_config()
            count = len(config.training.replica_overrides)
            program = Program(_name(workdir, root), workdir, config, count)
            if program.is_complete():
                yield program


def _name(workdir: Workdir, root: Path) -> str:
    return str(workdir.path.relative_to(root.absolute()))


def _how_far(program: Program) -> tuple[bool, bool]:
    return program.is_complete(), program.workdir.config.exists()


def copy_from_twin(program: Program) -> None:
    """Gives a program the runs of its twin, which is complete.

    The config comes last: a folder without one holds no run, and is filled anew.
    """
    assert program.twin is not None
    source, target = program.twin.workdir, program.workdir
    own = (source.log.name, source.config.name, source.lock.name, source.job.name)
    for left_over in target.path.iterdir():
        if left_over.is_dir():
            shutil.rmtree(left_over)
        elif left_over.name not in own:
            left_over.unlink()
    shutil.copytree(
        source.path, target.path, ignore=shutil.ignore_patterns(*own), dirs_exist_ok=True
    )
    target.claim(program.config)


def search_program(sweep: Sweep, condition: Condition, root: Path) -> Program:
    """The draws of a condition's search, as replicas; the sweep has one."""
    assert sweep.search is not None
    workdir = Workdir(root / sweep.name / condition.name / SEARCH_FOLDER)
    replicas = tuple(
        {"name": _draw_name(index), "training.seed": sweep.search.seed, **setting}
        for index, setting in enumerate(sweep.search.settings())
    )
    own = {"training.replica_overrides": replicas}
    config = with_options(sweep.search_config(condition), own)
    return Program(_name(workdir, root), workdir, config, len(replicas))


def _draw_name(index: int) -> str:
    return f"draw={index}"


class Draw(NamedTuple):
    """A setting that a search tried.

    Attributes:
      name: of its replica.
      overrides: {option: value}.
      outcome: of its run.
    """

    name: str
    overrides: dict[str, float]
    outcome: Outcome


def draws(search: Search, program: Program) -> list[Draw]:
    """Every setting with what came of it; the program is the search's, and complete."""
    outcomes = {outcome.replica: outcome for outcome in read_outcomes(program.workdir)}
    names = (_draw_name(index) for index in range(search.draws))
    return [
        Draw(name, overrides, outcomes[name])
        for name, overrides in zip(names, search.settings(), strict=True)
    ]


def chosen_draw(search: Search, program: Program) -> Draw | None:
    """The draw with the greatest measure at its end, the first of equals; None if all diverged.

    Args:
      search: of the sweep.
      program: the search's, and complete.
    """
    sound = [one for one in draws(search, program) if one.outcome.diverged_at_step is None]
    return max(sound, key=lambda draw: draw.outcome.final[search.choose_by], default=None)


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
