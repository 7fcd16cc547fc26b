"""How a cost grows between measured points, and whether the arithmetic explains it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

# An exponent is worse than that of the arithmetic only beyond what noise makes of it.
TOLERANCE = 0.2


class Point(NamedTuple):
    """A step at one size.

    Attributes:
      size: of what is varied.
      seconds: of a step.
      flops: of a step, on all devices together.
      bytes: read and written by a step, as the compiler counts them.
    """

    size: int
    seconds: float
    flops: float
    bytes: float


class Growth(NamedTuple):
    """Exponents between two neighbouring points: cost ~ size^exponent.

    Attributes:
      start: the smaller size.
      stop: the larger size.
      time: exponent of the time.
      flops: exponent of the operations.
      bytes: exponent of the memory traffic.
    """

    start: int
    stop: int
    time: float
    flops: float
    bytes: float

    @property
    def is_worse(self) -> bool:
        """Whether time grows faster than both, the operations and the memory traffic."""
        return self.time > max(self.flops, self.bytes) + TOLERANCE


def growths(points: Sequence[Point]) -> list[Growth]:
    """Between neighbours, in order of size."""
    ordered = sorted(points)
    return [
        Growth(
            one.size,
            other.size,
            _exponent(one.size, other.size, one.seconds, other.seconds),
            _exponent(one.size, other.size, one.flops, other.flops),
            _exponent(one.size, other.size, one.bytes, other.bytes),
        )
        for one, other in itertools.pairwise(ordered)
    ]


def _exponent(size: float, larger: float, cost: float, more: float) -> float:
    return math.log(more / cost) / math.log(larger / size)


def verdict(found: dict[str, list[Growth]]) -> list[str]:
    """A sentence for each growth that is worse than that of the arithmetic, or one for none."""
    worse = [
        f"{name} {one.start:,} -> {one.stop:,}: time grows as size^{one.time:.2f}, "
        f"operations as size^{one.flops:.2f}, memory traffic as size^{one.bytes:.2f}"
        for name, several in found.items()
        for one in several
        if one.is_worse
    ]
    return worse or ["Nothing grows faster than its operations or its memory traffic."]
