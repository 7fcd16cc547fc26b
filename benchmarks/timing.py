"""Timing: warm-up, repeated runs, and rivals in turn, so that noise of the machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Clock = Callable[[], float]
MOST_REPETITIONS = 5000


class Measurement(NamedTuple):
    """What was measured, as results.json holds it; `median` to `max` are in `unit`, over runs."""

    name: str
    median: float
    min: float
    max: float
    unit: str
    runs: int


class Rival(NamedTuple):
    """One way of doing something.

    Attributes:
      run: does it that many times, and waits until it is done: a dispatched computation is not.
      amount: of what is counted, steps or sequences, in one repetition.
      at_least: repetitions at a time.
    """

    run: Callable[[int], object]
    amount: int = 1
    at_least: int = 1


class Block(NamedTuple):
    """Some repetitions of one thing; `count` is how many steps or sequences they make."""

    run: Callable[[], object]
    count: int = 1


def spread(name: str, samples: Sequence[float], unit: str) -> Measurement:
    """Median and range of at least one sample."""
    return Measurement(
        name, statistics.median(samples), min(samples), max(samples), unit, len(samples)
    )


def ratio(name: str, slow: Sequence[float], fast: Sequence[float]) -> tuple[float, Measurement]:
    """How many times faster: the ratio of the medians, and the ratios round by round."""
    rounds = [one / other for one, other in zip(slow, fast, strict=True)]
    return statistics.median(slow) / statistics.median(fast), spread(name, rounds, "x")


def time_in_turn(
    rivals: Mapping[str, Rival], rounds: int, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of one step or sequence of each rival, a sample a round.

    Args:
      rivals: by name.
      rounds: of which each runs a block of every rival.
      seconds: that a block should last, found by trying; 0 for one repetition, not tried out.
      clock: in seconds.
    """
    blocks = {name: fit_block(rival, seconds, clock) for name, rival in rivals.items()}
    samples: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(rounds):
        for name, block in blocks.items():
            start = clock()
            block.run()
            samples[name].append((clock() - start) / block.count)
    return samples


def fit_block(rival: Rival, seconds: float, clock: Clock = time.perf_counter) -> Block:
    """A block that lasts about as long, tried out before; see `time_in_turn`."""
    count = rival.at_least
    if seconds:
        rival.run(1)
        # A few repetitions can be deceptively fast: what a feed had ready is soon used up.
        took = _time(rival, count, clock)
        while took < seconds / 4 and count < MOST_REPETITIONS:
            count = min(4 * count, MOST_REPETITIONS)
            took = _time(rival, count, clock)
        fitting = round(count * seconds / took) if took > 0 else MOST_REPETITIONS
        count = max(rival.at_least, min(fitting, MOST_REPETITIONS))
    return Block(lambda: rival.run(count), count * rival.amount)


def _time(rival: Rival, count: int, clock: Clock) -> float:
    start = clock()
    rival.run(count)
    return clock() - start
