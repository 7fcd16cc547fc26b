"""A sweep as data: a base config, conditions, and a claim written down before any run."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import NAME_RULE, is_name, tuples, with_options
from emergent_icl.config.files import FileError, call_file
from emergent_icl.config.rules import integer, number
from emergent_icl.evaluation.measures import evaluation_mode, measure_problem
from emergent_icl.runs import leaks
from emergent_icl.runs.check import check
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.search import FIRST_TUNING_SEED, draw_name
from emergent_icl.sweeps.search import Search as Search
from emergent_icl.sweeps.verdicts import Check, Rule

Plot = Literal["final", "curves"]
Split = Literal["replicate", "fixed"]
# Options that a replicate's seed sets: those of initial parameters and training sequences, held-out
# classes, and evaluation sequences.
SEEDED: Mapping[Split, tuple[str, ...]] = {
    "replicate": ("training.seed", "data.split.seed", "evaluation.seed"),
    "fixed": ("training.seed",),
}
# Prefix of the options that define replicas.
_REPLICAS = "training.replica"
_SEED, _NUMBER = integer(0, FIRST_TUNING_SEED - 1), number(-math.inf)


class SweepError(ValueError):
    """A sweep cannot be run; the message states the reason."""


class Condition(NamedTuple):
    """One setting to compare with others.

    Attributes:
      name: appears in folders and figures.
      overrides: from options of the config, any of them, to values.
      value: position on the sweep's axis, or on both axes.
    """

    name: str
    overrides: Mapping[str, Any]
    value: float | tuple[float, float] | None = None


def over(option: str, values: Sequence[float], label: str) -> tuple[Condition, ...]:
    """A condition for each value of one option, named 'label=value'."""
    return tuple(Condition(f"{label}={value:g}", {option: value}, value) for value in values)


def grid(first: Sequence[Condition], second: Sequence[Condition]) -> tuple[Condition, ...]:
    """A condition for each pair of two axes' conditions, named 'first,second'.

    Overrides of the second axis take precedence.
    """
    return tuple(
        Condition(
            f"{a.name},{b.name}",
            {**a.overrides, **b.overrides},
            (a.value, b.value),  # pyright: ignore[reportArgumentType]  (`over` gives numbers)
        )
        for a, b in itertools.product(first, second)
    )


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One or more conditions that differ in a few options, and a claim about them.

    A sweep over two options (see `grid`) has a pair of axes, is drawn as a map, and may have no
    claim. NumPy values are converted to plain numbers.

    Attributes:
      name: the name of its folder, and its key in results.json.
      title: the title of its figure.
      axis: what the values of conditions measure.
      base: the config that all conditions override, locked.
      conditions: the settings to compare.
      claim: what is tested about them, if anything.
      seeds: one replicate of each condition per seed.
      most_seeds: maximum number of seeds if some are added later; 0 if none may be added.
      split: 'replicate' if replicates have their own class splits and evaluation sequences; 'fixed'
        if they share those of the base: verdicts are then conditional on them.
      together: one job trains all conditions of a seed, which must differ in per-replica options
        only.
      measures: one panel each: 'icl', 'iwl', 'iwl_common', 'iwl_rare', 'loss', 'eval/MODE/METRIC'.
      search: chooses the settings of each condition first, if given.
      plot: what the summary figure shows: 'final' values, or 'curves'.
      notes: where the settings come from.
    """

    name: str
    title: str
    axis: str | tuple[str, str]
    base: ConfigDict
    conditions: tuple[Condition, ...]
    claim: Claim | None = None
    seeds: tuple[int, ...] = tuple(range(5))
    most_seeds: int = 0
    split: Split = "replicate"
    together: bool = False
    measures: tuple[str, ...] = ("icl", "iwl")
    search: Search | None = None
    plot: Plot = "final"
    notes: str = ""

    def __post_init__(self) -> None:
        conditions = (
            Condition(name, tuples(dict(overrides)), tuples(value))
            for name, overrides, value in self.conditions
        )
        object.__setattr__(self, "conditions", tuple(conditions))
        object.__setattr__(self, "seeds", tuples(self.seeds))

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of its claim, if any."""
        return self.claim.checks if self.claim else ()

    def config(self, condition: Condition) -> ConfigDict:
        """The locked config of a condition; raises SweepError if it is invalid."""
        try:
            config = with_options(self.base, condition.overrides)
            check(config)
        except (ConfigError, KeyError) as error:
            # str(KeyError) would add quotes.
            where = f"sweep '{self.name}', condition '{condition.name}'"
            raise SweepError(f"{where}: {error.args[0]}") from error
        return config

    def search_config(self, condition: Condition) -> ConfigDict:
        """The config of a condition's draws, without the drawn options."""
        assert self.search is not None
        config = self.config(condition)
        whole = config.training.num_steps
        steps = self.search.num_steps or whole
        further = {"training.num_steps": steps}
        for section in ("evaluation", "checkpoints"):
            further[f"{section}.every"] = max(config[section].every * steps // whole, 1)
        return self.config(condition._replace(overrides={**condition.overrides, **further}))

    def _check_draws(self, config: ConfigDict, condition: Condition) -> None:
        """Raises SweepError if a setting of the search is not allowed."""
        try:
            check(with_options(config, {f"{_REPLICAS}_overrides": self.search_replicas()}))
        except ConfigError as error:
            where = f"the search, condition '{condition.name}'"
            raise SweepError(f"sweep '{self.name}', {where}: {error}") from error

    def search_replicas(self) -> tuple[dict[str, Any], ...]:
        """`training.replica_overrides` of the draws, the same for every condition."""
        assert self.search is not None
        seeds = dict.fromkeys(SEEDED[self.split], self.search.seed)
        return tuple(
            {"name": draw_name(index), **seeds, **overrides}
            for index, overrides in enumerate(self.search.settings())
        )

    def with_base_options(self, values: Mapping[str, Any]) -> Self:
        """The sweep with {option: value} set in its base; conditions' overrides take precedence.

        Raises SweepError if an option does not exist, or is set by replicates.
        """
        if problem := self._seeded_option("the base", values):
            raise SweepError(f"sweep '{self.name}': {problem}")
        try:
            return dataclasses.replace(self, base=with_options(self.base, values))
        except KeyError as error:
            raise SweepError(f"sweep '{self.name}': {error.args[0]}") from error

    def with_replicates(self, count: int) -> Self:
        """The sweep with its first `count` seeds, and consecutive ones if it has fewer."""
        further = range(max(self.seeds) + 1, max(self.seeds) + 1 + count - len(self.seeds))
        return dataclasses.replace(self, seeds=(*self.seeds, *further)[:count])

    def replicas(self, seeds: Sequence[int]) -> tuple[dict[str, Any], ...]:
        """`training.replica_overrides` of the replicates with these seeds."""
        own = SEEDED[self.split]
        return tuple({"name": f"seed={seed}", **dict.fromkeys(own, seed)} for seed in seeds)

    def together_config(self, seed: int) -> ConfigDict:
        """The config that trains all conditions with one seed, as replicas."""
        replicas = tuple(
            {**one.overrides, **self.replicas([seed])[0], "name": one.name}
            for one in self.conditions
        )
        return self.config(Condition("together", {"training.replica_overrides": replicas}))

    def check(self) -> None:
        """Checks the whole sweep before anything runs; raises SweepError with the first problem."""
        if problem := next(self._problems(), None):
            raise SweepError(f"sweep '{self.name}': {problem}")

    def _seeded_option(self, who: str, values: Mapping[str, Any]) -> str:
        seeded = SEEDED.get(self.split, ())
        own = [one for one in values if one in seeded or one.startswith(_REPLICAS)]
        return f"{who} sets {', '.join(own)}: each replicate has its own" if own else ""

    def _problems(self) -> Iterator[str]:
        names = [condition.name for condition in self.conditions]
        for name in (self.name, *names):
            if not is_name(name):
                yield f"the name {name!r} must be {NAME_RULE}"
        if not names:
            yield "there must be at least one condition"
        if len({name.lower() for name in names}) < len(names):
            yield f"names of conditions must differ by more than case, not {names}"
        yield from _seed_problems(self.seeds)
        if self.most_seeds < 0:
            yield f"most_seeds = {self.most_seeds} must be at least 0"
        rule = self.claim.rule if self.claim else "limits"
        chosen = (("plot", self.plot, Plot), ("claim.rule", rule, Rule))
        for name, value, allowed in (*chosen, ("split", self.split, Split)):
            if value not in get_args(allowed):
                yield f"{name} = {value!r} must be one of {', '.join(get_args(allowed))}"
        if not self.checks and (self.claim or isinstance(self.axis, str)):
            yield "the claim must have at least one check"
        if not self.measures:
            yield "measures must not be empty: each has a panel"
        if unknown := sorted(set().union(*(one.conditions() for one in self.checks)) - set(names)):
            yield f"the claim names {unknown}, but the conditions are {names}"
        yield from self._axis_problems()
        yield from self._setting_problems()

    def _axis_problems(self) -> Iterator[str]:
        """Problems with the values that axes and trends need."""
        has_trend = any(one.needs_values for one in self.checks)
        values = {condition.name: condition.value for condition in self.conditions}
        if isinstance(self.axis, str):
            if pairs := [name for name, value in values.items() if isinstance(value, tuple)]:
                yield f"axis = {self.axis!r} must be a pair of names: {pairs[0]!r} has two values"
            absent = [name for name, value in values.items() if value is None]
            if has_trend and absent:
                yield f"the claim has a trend, but conditions {absent} have no value"
            elif has_trend and not _can_rise(found := list(values.values())):
                yield f"the claim has a trend, but values {found} must be numbers that differ"
            return
        if len(self.axis) != 2 or not all(isinstance(one, str) for one in self.axis):
            yield f"axis = {self.axis!r} must be a name, or a pair of names"
        for name, value in values.items():
            pair = value if isinstance(value, tuple) else ()
            if len(pair) != 2 or not all(isinstance(one, int | float) for one in pair):
                yield f"condition '{name}' has the value {value!r}, but two axes need two numbers"
        places = list(values.values())
        if twice := [one for one in places if places.count(one) > 1]:
            yield f"two conditions have the same values {twice[0]}"
        if has_trend:
            yield "a trend needs a single axis: compare conditions with Difference instead"

    def _setting_problems(self) -> Iterator[str]:
        set_by = {f"condition '{one.name}'": one.overrides for one in self.conditions}
        measures = set(self.measures).union(*(one.measures() for one in self.checks))
        if self.search is not None:
            yield from self.search.problems()
            measures.add(self.search.choose_by)
            for one in self.conditions:
                for path in self.search.space.keys() & one.overrides.keys():
                    yield f"{path} is set by condition '{one.name}' and by the search"
            set_by["the search"] = self.search.space
        yield from filter(None, map(measure_problem, sorted(measures)))
        yield from filter(None, itertools.starmap(self._seeded_option, set_by.items()))
        if self.together:
            if self.search is not None:
                yield "a sweep with a search cannot train its conditions together"
            self.together_config(self.seeds[0])
        for condition in self.conditions:
            config = self.config(condition)
            if self.search is not None:
                config = self.search_config(condition)
                self._check_draws(config, condition)
            modes = config.evaluation.modes
            if self.split == "replicate" and config.data.split.holdout:
                yield (
                    f"condition '{condition.name}' names its held-out classes "
                    "(data.split.holdout), so replicates share them: set split = 'fixed'"
                )
            if config.training.initial.run:
                own = {"training.replica_overrides": self.replicas(self.seeds)}
                for leak in leaks.warnings(check(with_options(config, own))):
                    yield f"condition '{condition.name}': {leak}"
            for measure in sorted(measures):
                if (mode := evaluation_mode(measure)) is not None and mode not in modes:
                    yield (
                        f"{measure} needs evaluation.modes to contain '{mode}', but condition "
                        f"'{condition.name}' has {modes}"
                    )


def _seed_problems(seeds: object) -> Iterator[str]:
    found = seeds if isinstance(seeds, tuple) else (seeds,)
    if wrong := [seed for seed in found if not _SEED.allows(seed)]:
        yield f"seeds must be integers from 0 to {FIRST_TUNING_SEED - 1}, not {wrong[0]!r}"
    elif not isinstance(seeds, tuple):
        yield f"seeds = {seeds!r} must be a tuple of integers"
    elif not seeds or len({*seeds}) < len(seeds):
        yield f"seeds = {seeds} must be distinct and not empty"


def _can_rise(values: Collection[object]) -> bool:
    return all(map(_NUMBER.allows, values)) and len({*values}) > 1


def load_sweep(where: str, package: str = "", names: Sequence[str] = ()) -> Sweep:
    """Loads and checks a sweep: `get_sweep(preset)` of FILE.py[:preset] or NAME[:preset].

    NAME is one of the modules `names` of a package. Raises SweepError if the file is missing, does
    not define a sweep, or the sweep cannot be run.
    """
    try:
        sweep = call_file(where, "get_sweep", package, names)
    except FileError as error:
        raise SweepError(f"--sweep={where}: {error}") from error
    if not isinstance(sweep, Sweep):
        raise SweepError(f"{where}: get_sweep must return a Sweep, not {type(sweep).__name__}")
    sweep.check()
    return sweep
