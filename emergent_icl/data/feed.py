"""The way of the indices: sampler -> blocks of steps -> host shard -> training loop.

A batch is a pure function of (seed, step). Two feeders yield the same batches: one on
tf.data, one in plain Python for machines without TensorFlow. Either starts at any
step without replaying what came before.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from emergent_icl import randomness
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import Sampler
from emergent_icl.data.tensorflow import import_tensorflow

# Steps drawn by one call of a sampler. Part of what a seed means: another value would
# give every run other data.
BLOCK_STEPS = 32
PREFETCH_BLOCKS = 2
# Steps in an element of tf.data, unless a single item has more.
ELEMENT_STEPS = 64


class FeedSpec(NamedTuple):
    """Everything that the batches of a run depend on.

    Attributes:
      samplers: one for each of the R replicas.
      seeds: one for each replica.
      batch_size: B, sequences of a replica over all hosts.
      seq_len: S.
      steps_per_call: K, steps in one item of the feed.
      host_index: which contiguous share of the B sequences is this host's ...
      host_count: ... of how many.
    """

    samplers: Sequence[Sampler]
    seeds: Sequence[int]
    batch_size: int
    seq_len: int
    steps_per_call: int = 1
    host_index: int = 0
    host_count: int = 1


def sample_block(spec: FeedSpec, block: int) -> SequenceBatch:
    """Steps from block * BLOCK_STEPS on, int32 [BLOCK_STEPS, R, B / host_count, S]."""
    replicas = []
    rows = spec.batch_size // spec.host_count
    mine = slice(spec.host_index * rows, (spec.host_index + 1) * rows)
    for sampler, seed in zip(spec.samplers, spec.seeds, strict=True):
        rng = randomness.generator(seed, "train", block)
        batch = sampler(rng, BLOCK_STEPS * spec.batch_size)
        shape = (BLOCK_STEPS, spec.batch_size, spec.seq_len)
        replicas.append([np.reshape(leaf, shape)[:, mine] for leaf in batch])
    return SequenceBatch(*(np.stack(leaves, axis=1) for leaves in zip(*replicas, strict=True)))


def python_feed(spec: FeedSpec, start_step: int) -> Iterator[SequenceBatch]:
    """Yields [K, R, B / host_count, S] for start_step, start_step + K, ...; never ends."""
    steps = _python_steps(spec, start_step)
    while True:
        group = [next(steps) for _ in range(spec.steps_per_call)]
        yield SequenceBatch(*(np.stack(leaves) for leaves in zip(*group, strict=True)))


def _python_steps(spec: FeedSpec, start_step: int) -> Iterator[SequenceBatch]:
    block, offset = divmod(start_step, BLOCK_STEPS)
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        ahead = [pool.submit(sample_block, spec, block + i) for i in range(PREFETCH_BLOCKS)]
        try:
            while True:
                current = ahead.pop(0).result()
                ahead.append(pool.submit(sample_block, spec, block + PREFETCH_BLOCKS))
                for step in range(offset, BLOCK_STEPS):
                    yield SequenceBatch(*(leaf[step] for leaf in current))
                block, offset = block + 1, 0
        finally:
            for future in ahead:
                future.cancel()


def tfdata_feed(spec: FeedSpec, start_step: int) -> Iterator[SequenceBatch]:
    """The same batches as `python_feed`, sampled by tf.data's own threads.

    An element of the dataset holds several items of the feed: to ask for one takes nearly a
    millisecond, whatever it holds.
    """
    tf = import_tensorflow()
    rows = spec.batch_size // spec.host_count
    items = max(1, ELEMENT_STEPS // spec.steps_per_call)
    steps = items * spec.steps_per_call
    shape = (steps, len(spec.samplers), rows, spec.seq_len)
    # A block may serve several elements, and neighbors are sampled at the same time.
    block = functools.lru_cache(maxsize=2 * PREFETCH_BLOCKS)(functools.partial(sample_block, spec))

    def sample(element: Any) -> tuple[Any, ...]:
        leaves = tf.numpy_function(
            lambda i: _steps(block, start_step + int(i) * steps, steps),
            [element],
            [tf.int32] * 3,
            stateful=False,
        )
        return tuple(tf.ensure_shape(leaf, shape) for leaf in leaves)

    dataset = (
        tf.data.Dataset.range(np.iinfo(np.int64).max)
        .map(sample, num_parallel_calls=PREFETCH_BLOCKS, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    iterator = dataset.as_numpy_iterator()
    try:
        for leaves in iterator:
            for first in range(0, steps, spec.steps_per_call):
                yield SequenceBatch(*(leaf[first : first + spec.steps_per_call] for leaf in leaves))
    finally:
        # Its threads call back into Python: they must end before the interpreter does.
        del iterator


def _steps(block: Callable[[int], SequenceBatch], start: int, count: int) -> tuple[np.ndarray, ...]:
    """Steps [start, start + count) out of their blocks, [count, R, B / host_count, S] a leaf."""
    first, last = start // BLOCK_STEPS, (start + count - 1) // BLOCK_STEPS
    offset = start - first * BLOCK_STEPS
    pieces = [block(index) for index in range(first, last + 1)]
    return tuple(
        np.concatenate(leaves)[offset : offset + count] for leaves in zip(*pieces, strict=True)
    )


FEEDERS.register("python")(python_feed)
FEEDERS.register("tfdata")(tfdata_feed)


def resolve_feeder(name: str) -> str:
    """'auto' -> 'tfdata' where TensorFlow is installed, else 'python'; others unchanged."""
    if name != "auto":
        return name
    return "tfdata" if _has_tensorflow() else "python"


def _has_tensorflow() -> bool:
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except ValueError:  # A blocked module: sys.modules['tensorflow'] is None.
        return False
