"""Declarations of options, and rules for their values."""

import math
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import ml_collections


class Rule(NamedTuple):
    """The allowed values of an option.

    `words` describe them, after "must be". `choices` are allowed names; registries among them may
    grow.
    """

    allows: Callable[[Any], bool]
    words: str
    choices: tuple[Collection[str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Sorted allowed names."""
        return tuple(sorted(name for names in self.choices for name in names))

    @property
    def text(self) -> str:
        """The allowed values in words, after "must be", with names."""
        return self.words + ", ".join(self.names)


# `Option.before` of options that version 0.1.0 had.
FROM_THE_START = object()


class Option(NamedTuple):
    """Declaration of an option.

    Attributes:
      default: as in the paper if possible; None: derived; {}: a section for keyword arguments.
      rule: the allowed values.
      help: its meaning.
      per_replica: may differ between replicas, since it changes no shapes.
      resumable: may change when a run is resumed, since it does not affect earlier results.
      per_machine: may change when a run is resumed, and differ between processes of a run.
      reopenable: may change when a trained run is opened.
      before: for options added after version 0.1.0, the value that describes earlier behavior.
    """

    default: Any
    rule: Rule
    help: str
    per_replica: bool = False
    resumable: bool = False
    per_machine: bool = False
    reopenable: bool = False
    before: Any = FROM_THE_START


def section(path: str, options: dict[str, Option], **flags: bool) -> dict[str, Option]:
    """Options of a section by their paths, with common flags."""
    return {f"{path}.{name}": option._replace(**flags) for name, option in options.items()}


def integer(low: int, high: float = math.inf, *, optional: bool = False) -> Rule:
    """A whole number in [low, high], or None if `optional` ('none' on the command line)."""
    text = f"an integer >= {low}" if high == math.inf else f"an integer from {low} to {high}"
    return Rule(
        lambda v: (_is_int(v) and low <= v <= high) or (optional and v is None),
        text + ", or none" * optional,
    )


def number(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or (low, high] if `above`."""
    text = f"a number > {low:g}" if above else f"a number >= {low:g}"

    def allows(value: Any) -> bool:
        # `math.isfinite` raises OverflowError for very large integers.
        is_finite = _is_int(value) or (isinstance(value, float) and math.isfinite(value))
        return is_finite and low <= value <= high and not (above and value == low)

    return Rule(allows, text if high == math.inf else f"{text} and <= {high:g}")


def one_of(*choices: Collection[str]) -> Rule:
    """One of some names."""
    return Rule(
        lambda v: isinstance(v, str) and any(v in names for names in choices), "one of ", choices
    )


def tuple_of(
    allows: Callable[[Any], bool], words: str, low: int = 0, high: float = math.inf
) -> Rule:
    """A tuple of low .. high valid entries."""

    def all_valid(value: Any) -> bool:
        return isinstance(value, tuple) and low <= len(value) <= high and all(map(allows, value))

    return Rule(all_valid, words)


def some_of(names: Collection[str], at_least: int = 1) -> Rule:
    """A tuple of distinct names."""
    texts = tuple_of(lambda entry: isinstance(entry, str), "", at_least)

    def allows(value: Any) -> bool:
        return texts.allows(value) and len(value) == len(set(value)) and set(value) <= {*names}

    return Rule(allows, "a tuple of different names among ", (names,))


def integers(at_least: int = 0) -> Rule:
    """A tuple of positive integers with a minimum length."""
    length = f", at least {at_least} of them" if at_least else ""
    return tuple_of(integer(1).allows, f"a tuple of integers >= 1{length}", at_least)


# N steps per decade.
LOG_SPACED = re.compile("log:([1-9][0-9]{0,2})")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


LABELINGS = ("ordered", "original", "shared", "unfixed")
STRING = Rule(lambda v: isinstance(v, str), "a string")
BOOLEAN = Rule(lambda v: isinstance(v, bool), "True or False")
PROBABILITY = number(0, 1)
# Dropout of everything cannot be rescaled.
DROPOUT = number(0, 0.99)
OPTIONAL_COUNT = integer(1, optional=True)
SEED = integer(0, 2**32 - 1)
COUNT = integer(0)
CLASSES = tuple_of(
    lambda entry: isinstance(entry, str) or COUNT.allows(entry),
    "a tuple of names of classes or groups, and of class numbers >= 0",
)
STEPS = tuple_of(
    lambda entry: COUNT.allows(entry) or bool(LOG_SPACED.fullmatch(str(entry))),
    "a tuple of integers >= 0, and of 'log:N' with N from 1 to 999",
)
NAMES = tuple_of(lambda name: isinstance(name, str) and name != "", "a tuple of names")
KEYWORDS = Rule(lambda v: isinstance(v, ml_collections.ConfigDict), "keyword arguments")
# Each replica has its own open files and threads.
MOST_REPLICAS = 256
OVERRIDES = tuple_of(
    lambda entry: isinstance(entry, dict) and all(isinstance(name, str) for name in entry),
    f"a tuple of at most {MOST_REPLICAS} dictionaries {{'name': ..., 'option': value}} (a tuple of "
    "one needs a trailing comma)",
    high=MOST_REPLICAS,
)
