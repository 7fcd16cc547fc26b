"""What an option is: its declaration, and the kinds of values that it may have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import ml_collections


class Rule(NamedTuple):
    """What a single option may be."""

    allows: Callable[[Any], bool]
    # The allowed values in words, after "must be", up to the names.
    words: str
    # The allowed values if they are names; registries among them may still fill.
    choices: tuple[Collection[str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed values in order, where they are names."""
        return tuple(sorted(name for names in self.choices for name in names))

    @property
    def text(self) -> str:
        """The allowed values in words, after "must be"."""
        return self.words + ", ".join(self.names)


# `Option.before` of options of version 0.1.0.
FROM_THE_START = object()


class Option(NamedTuple):
    """One option: default, as in the paper if possible; rule; meaning; and where it may change."""

    # None means unset, to be derived from the others; {} is a section for keyword arguments.
    default: Any
    rule: Rule
    help: str
    # Between replicas that are trained together: it changes no shapes.
    per_replica: bool = False
    # When a run is resumed: it does not affect what was computed.
    resumable: bool = False
    # Where a machine has its data and how it reads them: when a run is resumed, and between the
    # processes of a run.
    per_machine: bool = False
    # When a trained run is opened.
    reopenable: bool = False
    # If it came after version 0.1.0, the value of what was done before there was a choice.
    before: Any = FROM_THE_START


def section(path: str, options: dict[str, Option], **flags: bool) -> dict[str, Option]:
    """The options of a section by their paths, with flags that all of them have."""
    return {f"{path}.{name}": option._replace(**flags) for name, option in options.items()}


def integer(low: int, high: float = math.inf) -> Rule:
    """A whole number in [low, high]."""
    text = f"an integer >= {low}" if high == math.inf else f"an integer from {low} to {high}"
    return Rule(lambda v: _is_int(v) and low <= v <= high, text)


def optional_integer(low: int) -> Rule:
    """A whole number >= low, or None: unset, which the command line calls 'none'."""
    return Rule(lambda v: v is None or (_is_int(v) and v >= low), f"an integer >= {low}, or none")


def number(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or (low, high] if `above`."""
    text = f"a number > {low:g}" if above else f"a number >= {low:g}"

    def allows(value: Any) -> bool:
        # An integer may be too large to become a float.
        is_finite = _is_int(value) or (isinstance(value, float) and math.isfinite(value))
        return is_finite and low <= value <= high and not (above and value == low)

    return Rule(allows, text if high == math.inf else f"{text} and <= {high:g}")


def one_of(*choices: Collection[str]) -> Rule:
    """One of some names."""
    return Rule(
        lambda v: isinstance(v, str) and any(v in names for names in choices), "one of ", choices
    )


def some_of(names: Collection[str], at_least: int = 1) -> Rule:
    """A tuple of some names, each once."""

    def allows(value: Any) -> bool:
        are_names = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
        return are_names and at_least <= len(value) == len(set(value)) and set(value) <= {*names}

    return Rule(allows, "a tuple of different names among ", (names,))


def integers(at_least: int = 0) -> Rule:
    """A tuple of positive integers, of some length."""

    def allows(value: Any) -> bool:
        is_long_enough = isinstance(value, tuple) and len(value) >= at_least
        return is_long_enough and all(_is_int(v) and v >= 1 for v in value)

    length = f", at least {at_least} of them" if at_least else ""
    return Rule(allows, f"a tuple of integers >= 1{length}")


def _is_class(entry: Any) -> bool:
    return isinstance(entry, str) or (_is_int(entry) and entry >= 0)


# N steps per decade.
LOG_SPACED = re.compile("log:([1-9][0-9]{0,2})")


def _is_step(entry: Any) -> bool:
    if isinstance(entry, str):
        return LOG_SPACED.fullmatch(entry) is not None
    return _is_int(entry) and entry >= 0


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_overrides(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


LABELINGS = ("ordered", "original", "shared", "unfixed")
STRING = Rule(lambda v: isinstance(v, str), "a string")
BOOLEAN = Rule(lambda v: isinstance(v, bool), "True or False")
PROBABILITY = number(0, 1)
# Dropping everything would leave nothing to scale up.
DROPOUT = number(0, 0.99)
OPTIONAL_COUNT = optional_integer(1)
SEED = integer(0, 2**32 - 1)
CLASSES = Rule(
    lambda v: isinstance(v, tuple) and all(map(_is_class, v)),
    "a tuple of names of classes or groups, and of numbers of classes from 0",
)
STEPS = Rule(
    lambda v: isinstance(v, tuple) and all(map(_is_step, v)),
    "a tuple of integers >= 0, and of 'log:N' with N from 1 to 999",
)
NAMES = Rule(
    lambda v: isinstance(v, tuple) and all(isinstance(name, str) and name for name in v),
    "a tuple of names",
)
KEYWORDS = Rule(lambda v: isinstance(v, ml_collections.ConfigDict), "keyword arguments")
# Each replica keeps files and threads of its own open.
MOST_REPLICAS = 256
OVERRIDES = Rule(
    lambda v: isinstance(v, tuple) and len(v) <= MOST_REPLICAS and all(map(_is_overrides, v)),
    f"a tuple of at most {MOST_REPLICAS} dictionaries {{'name': ..., 'option': value}}, a single "
    f"one with a comma behind it",
)
