"""Timing: warm-up, repeated runs, and rivals in turn, so that noise of the machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Clock = Callable[[], float]
MOST_REPETITIONS = 5000


class Measurement(NamedTuple):
    """What was measured, as results.json holds it.

    Attributes:
      name: of what.
      median: of the runs.
      min: of the runs.
      max: of the runs.
      unit: of these three.
      runs: how many there were.
    """

    name: str
    median: float
    min: float
    max: float
    unit: str
    runs: int


class Block(NamedTuple):
    """Some repetitions of one thing.

    Attributes:
      run: does them, and waits until they are done: a dispatched computation is none.
      count: how many there are.
    """

    run: Callable[[], object]
    count: int = 1


def summarise(name: str, samples: Sequence[float], unit: str, scale: float = 1.0) -> Measurement:
    """Median and spread of at least one sample, each times `scale`."""
    scaled = [scale * sample for sample in samples]
    return Measurement(name, statistics.median(scaled), min(scaled), max(scaled), unit, len(scaled))


def seconds_each(block: Block, clock: Clock = time.perf_counter) -> float:
    """Runs a block once; seconds of one repetition."""
    start = clock()
    block.run()
    return (clock() - start) / block.count


def repeat(
    block: Block, rounds: int, warmup: int = 0, clock: Clock = time.perf_counter
) -> list[float]:
    """Seconds of one repetition, a sample a round; see `alternate`."""
    for _ in range(warmup):
        block.run()
    return [seconds_each(block, clock) for _ in range(rounds)]


def alternate(
    blocks: Mapping[str, Block],
    rounds: int,
    warmup: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one repetition of each block, a sample a round; every round runs all in turn.

    Args:
      blocks: by name.
      rounds: how many count.
      warmup: rounds before them, where the blocks were not tried out by `fit_block`.
      clock: in seconds.
    """
    for _ in range(warmup):
        for block in blocks.values():
            block.run()
    samples: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(rounds):
        for name, block in blocks.items():
            samples[name].append(seconds_each(block, clock))
    return samples


def fit_block(
    run: Callable[[int], object],
    target: float,
    at_least: int = 1,
    clock: Clock = time.perf_counter,
) -> Block:
    """A block of as many repetitions as take about `target` seconds, tried out before.

    Args:
      run: does that many repetitions; is called once before, to compile.
      target: seconds.
      at_least: repetitions.
      clock: in seconds.
    """
    run(1)
    # A few repetitions can be deceptively fast: what a feed had ready is soon used up.
    count, seconds = at_least, 0.0
    while True:
        start = clock()
        run(count)
        seconds = clock() - start
        if seconds >= target / 4 or count >= MOST_REPETITIONS:
            break
        count = min(4 * count, MOST_REPETITIONS)
    fitting = round(count * target / seconds) if seconds > 0 else MOST_REPETITIONS
    count = max(at_least, min(fitting, MOST_REPETITIONS))
    return Block(lambda: run(count), count)


def ratio(name: str, slow: Sequence[float], fast: Sequence[float]) -> tuple[float, Measurement]:
    """How many times faster: the ratio of the medians, and the ratios round by round."""
    rounds = [one / other for one, other in zip(slow, fast, strict=True)]
    overall = statistics.median(slow) / statistics.median(fast)
    return overall, summarise(name, rounds, "x")
