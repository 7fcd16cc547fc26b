"""A sweep as data: a base config, conditions, and a claim written down before any run."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import NAME_RULE, in_words, is_name, prefixes, with_options
from emergent_icl.config.files import FileError, call_file
from emergent_icl.runs.check import check
from emergent_icl.sweeps.checks import Rule
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.measures import evaluation_mode, measure_problem

# Seeds from here on choose settings; verdicts have those below.
FIRST_TUNING_SEED = 1000

Plot = Literal["final", "curves"]
Split = Literal["replicate", "fixed"]
# What a replicate has of its own, options that its seed is the value of: initial parameters and
# training sequences; which classes are held out; evaluation sequences.
SEEDED: Mapping[Split, tuple[str, ...]] = {
    "replicate": ("training.seed", "data.split.seed", "evaluation.seed"),
    "fixed": ("training.seed",),
}
# Options that make a program's replicas.
_REPLICAS = "training.replica"


class SweepError(ValueError):
    """A sweep that cannot be run; the message says what is wrong with it."""


class Condition(NamedTuple):
    """One setting to compare with others; `name` appears in folders and figures."""

    name: str
    overrides: Mapping[str, Any]  # {option: value}, any options of the config.
    value: float | None = None  # Its place on the sweep's axis.


def over(option: str, values: Sequence[float], label: str) -> tuple[Condition, ...]:
    """A condition for each value of one option, named 'label=value'."""
    return tuple(Condition(f"{label}={value:g}", {option: value}, value) for value in values)


@dataclasses.dataclass(frozen=True)
class Search:
    """A random search for the settings of each condition, before its runs for the verdict.

    Options are drawn log-uniformly, one draw from each of `draws` equal parts of their ranges.
    """

    space: Mapping[
        str, tuple[float, float]
    ]  # {option: (low, high)}, of options that replicas have.
    draws: int = 8  # Settings of each condition.
    choose_by: str = "icl"  # The measure whose best value at the end chooses; of a loss, the least.
    seed: int = FIRST_TUNING_SEED  # Of the draws, and of their runs.
    num_steps: int = 0  # Of a draw, evaluated as often as the sweep's own runs; 0: as long, too.

    def settings(self) -> list[dict[str, float]]:
        """What is tried: `draws` dictionaries {option: value}, the same for every condition."""
        rng = randomness.generator(self.seed, "search")
        columns = {}
        for option, (low, high) in self.space.items():
            parts = (rng.permutation(self.draws) + rng.random(self.draws)) / self.draws
            columns[option] = np.exp(math.log(low) + parts * math.log(high / low))
        return [
            {option: _as_typed(option, float(values[draw])) for option, values in columns.items()}
            for draw in range(self.draws)
        ]

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        may = prefixes("per_replica")
        for option, span in self.space.items():
            if not option.startswith(may):
                yield f"search.space: {option} must be one of {in_words(may)}"
            if len(span) != 2 or not 0 < span[0] < span[1]:
                yield f"search.space: {option} = {span!r} must be (low, high) with 0 < low < high"
        for name, least in (("draws", 1), ("num_steps", 0), ("seed", FIRST_TUNING_SEED)):
            if (value := getattr(self, name)) < least:
                yield f"search.{name} = {value} must be at least {least}"


def _as_typed(option: str, value: float) -> float:
    # Three digits: what is reported is what was run.
    return round(value) if option.endswith("_steps") else float(f"{value:.3g}")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One or more conditions that differ in a few options, and a claim about them."""

    name: str  # Of its folder, and its key in results.json.
    title: str  # Of its figure.
    axis: str  # What the conditions' values are.
    base: ml_collections.ConfigDict  # What every condition starts from, locked.
    conditions: tuple[Condition, ...]
    claim: Claim
    seeds: tuple[int, ...] = tuple(range(5))  # Of the replicates of each condition.
    # Up to which number seeds may be added after looking, from the first one up; 0: none are.
    most_seeds: int = 0
    # Whether each replicate has its own class split and evaluation sequences, or all share those
    # of the base, so that verdicts are conditional on them.
    split: Split = "replicate"
    measures: tuple[str, ...] = ("icl", "iwl")  # A panel each; see `measures.MEASURES`.
    search: Search | None = None
    plot: Plot = "final"  # What the summary figure shows, the runs' ends or their curves.
    notes: str = ""  # Where the settings come from.

    def config(
        self, condition: Condition, further: Mapping[str, Any] | None = None
    ) -> ml_collections.ConfigDict:
        """The config of a condition, with further overrides, locked.

        Raises SweepError for one that cannot be run.
        """
        try:
            config = with_options(self.base, {**condition.overrides, **(further or {})})
            check(config)
        except (ConfigError, KeyError) as error:
            # A KeyError puts its message in quotes.
            where = f"sweep '{self.name}', condition '{condition.name}'"
            raise SweepError(f"{where}: {error.args[0]}") from error
        return config

    def search_config(self, condition: Condition) -> ml_collections.ConfigDict:
        """The same for a condition's draws, but for what is drawn; the sweep has a search."""
        assert self.search is not None
        config = self.config(condition)
        whole = config.training.num_steps
        steps = self.search.num_steps or whole
        further = {"training.num_steps": steps}
        for section in ("evaluation", "checkpoints"):
            further[f"{section}.every"] = max(config[section].every * steps // whole, 1)
        return self.config(condition, further)

    def with_base_options(self, values: Mapping[str, Any]) -> Sweep:
        """The same sweep from another base; a condition's own overrides still come last.

        Raises SweepError for an option that does not exist, or that each replicate has of its own.
        """
        if problem := self._own_option("the base", values):
            raise SweepError(f"sweep '{self.name}': {problem}")
        try:
            return dataclasses.replace(self, base=with_options(self.base, values))
        except KeyError as error:
            raise SweepError(f"sweep '{self.name}': {error.args[0]}") from error

    def with_replicates(self, count: int) -> Sweep:
        """The same sweep with `count` replicates of each condition, from its first seed up."""
        return dataclasses.replace(self, seeds=tuple(range(self.seeds[0], self.seeds[0] + count)))

    def replicas(self, seeds: Sequence[int]) -> tuple[dict[str, Any], ...]:
        """`training.replica_overrides` of the replicates with these seeds."""
        own = SEEDED[self.split]
        return tuple({"name": f"seed={seed}", **dict.fromkeys(own, seed)} for seed in seeds)

    def _own_option(self, who: str, values: Mapping[str, Any]) -> str:
        """What is wrong with setting options whose values replicates would replace."""
        own = [
            one for one in values if one in SEEDED.get(self.split, ()) or one.startswith(_REPLICAS)
        ]
        return f"{who} sets {', '.join(own)}: each replicate has its own" if own else ""

    def check(self) -> None:
        """Checks the whole sweep before anything runs; raises SweepError, which says why."""
        if problem := next(self._problems(), None):
            raise SweepError(f"sweep '{self.name}': {problem}")

    def _problems(self) -> Iterator[str]:
        names = [condition.name for condition in self.conditions]
        for name in (self.name, *names):
            if not is_name(name):
                yield f"the name {name!r} must be {NAME_RULE}"
        if not names:
            yield "there must be at least one condition"
        if len({name.lower() for name in names}) < len(names):
            yield f"the names of conditions must differ, not {names}"
        if not self.seeds or len({*self.seeds}) < len(self.seeds):
            yield f"seeds = {self.seeds} must be different numbers, at least one"
        if not all(0 <= seed < FIRST_TUNING_SEED for seed in self.seeds):
            yield f"seeds = {self.seeds} must be from 0 to {FIRST_TUNING_SEED - 1}"
        if self.most_seeds < 0:
            yield f"most_seeds = {self.most_seeds} must be at least 0"
        if not self.claim.checks:
            yield "the claim must have at least one check"
        checks = self.claim.checks
        if unknown := sorted(set().union(*(one.conditions() for one in checks)) - set(names)):
            yield f"the claim speaks of {unknown}, but the conditions are {names}"
        needy = [one.name for one in self.conditions if one.value is None]
        if needy and any(getattr(one, "needs_values", False) for one in checks):
            yield f"the claim is of a trend, but {needy} have no value"
        chosen = (("plot", self.plot, Plot), ("claim.rule", self.claim.rule, Rule))
        for name, value, allowed in (*chosen, ("split", self.split, Split)):
            if value not in get_args(allowed):
                yield f"{name} = {value!r} must be one of {', '.join(get_args(allowed))}"
        yield from self._setting_problems()

    def _setting_problems(self) -> Iterator[str]:
        set_by = {f"condition '{one.name}'": one.overrides for one in self.conditions}
        measures = set(self.measures).union(*(one.measures() for one in self.claim.checks))
        if self.search is not None:
            yield from self.search.problems()
            measures.add(self.search.choose_by)
            set_by["the search"] = self.search.space
        yield from filter(None, map(measure_problem, sorted(measures)))
        yield from filter(None, itertools.starmap(self._own_option, set_by.items()))
        for condition in self.conditions:
            config = self.config(condition)
            modes = config.evaluation.modes
            if self.split == "replicate" and config.data.split.holdout:
                yield (
                    f"condition '{condition.name}' names its held-out classes "
                    "(data.split.holdout), so replicates share them: say split = 'fixed'"
                )
            if self.search is not None:
                self.search_config(condition)
            for measure in sorted(measures):
                mode = evaluation_mode(measure)
                if mode is not None and mode not in modes:
                    yield (
                        f"{measure} needs evaluation.modes to hold '{mode}', but condition "
                        f"'{condition.name}' has {modes}"
                    )


def load_sweep(where: str, package: str = "", names: Sequence[str] = ()) -> Sweep:
    """Loads FILE.py[:preset] with a function `get_sweep(preset)`, and checks the sweep.

    NAME[:preset] is one of the modules `names` of a package.

    Raises SweepError for a file that is missing, or not a sweep's, or a sweep that cannot be run.
    """
    try:
        sweep = call_file(where, "get_sweep", package, names)
    except FileError as error:
        raise SweepError(f"--sweep={where}: {error}") from error
    if not isinstance(sweep, Sweep):
        raise SweepError(f"{where}: get_sweep must give a Sweep, not {type(sweep).__name__}")
    sweep.check()
    return sweep
