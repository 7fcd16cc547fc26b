"""A random search for settings, as data: which options are drawn, from which ranges."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from emergent_icl import randomness
from emergent_icl.config.configs import has, in_words, prefixes, tuples
from emergent_icl.config.options import known
from emergent_icl.config.rules import number

# Seeds from this one up choose settings; verdicts use lower ones.
FIRST_TUNING_SEED = 1000
_POSITIVE = number(0, above=True)


def draw_name(index: int) -> str:
    """The name of a draw's run."""
    return f"draw={index}"


@dataclasses.dataclass(frozen=True)
class Search:
    """A random search for the settings of each condition, before its runs for the verdict.

    Options are drawn log-uniformly, one draw from each of `draws` equal parts of their ranges.

    Attributes:
      space: from per-replica options to their ranges (low, high); counts are rounded.
      draws: settings per condition.
      choose_by: the final measure to maximize, or to minimize if it is a loss.
      seed: determines the draws and their runs.
      num_steps: steps per draw, with as many evaluations as in the sweep's runs; 0 for the steps of
        these runs.
    """

    space: Mapping[str, tuple[float, float]]
    draws: int = 8
    choose_by: str = "icl"
    seed: int = FIRST_TUNING_SEED
    num_steps: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", tuples(dict(self.space)))

    def settings(self) -> list[dict[str, float]]:
        """The `draws` settings {option: value} to try, the same for every condition."""
        rng = randomness.generator(self.seed, "search")
        settings: list[dict[str, float]] = [{} for _ in range(self.draws)]
        for option, (low, high) in self.space.items():
            parts = (rng.permutation(self.draws) + rng.random(self.draws)) / self.draws
            values = np.exp(math.log(low) + parts * math.log(high / low)).tolist()
            for setting, value in zip(settings, values, strict=True):
                # Rounded before the run, so that reports state exactly what was run.
                is_count = type(known()[option].default) is int
                setting[option] = round(value) if is_count else float(f"{value:.3g}")
        return settings

    def problems(self) -> Iterator[str]:
        """A message for each invalid field."""
        for option, span in self.space.items():
            if not has(option, "per_replica"):
                allowed = in_words(prefixes("per_replica"))
                yield f"search.space: {option} must be one of {allowed}"
            is_pair = isinstance(span, tuple) and len(span) == 2
            if not is_pair or not all(map(_POSITIVE.allows, span)) or span[0] >= span[1]:
                yield f"search.space: {option} = {span!r} must be (low, high) with 0 < low < high"
        for name, least in (("draws", 1), ("num_steps", 0), ("seed", FIRST_TUNING_SEED)):
            if (value := getattr(self, name)) < least:
                yield f"search.{name} = {value} must be at least {least}"
