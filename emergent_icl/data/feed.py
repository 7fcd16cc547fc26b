"""Feeders: sampler -> blocks of steps -> host shard -> training loop.

A batch is a pure function of (seed, step). All feeders yield the same endless batches, int32
[K, R, B / process_count, S]. Any step can be the first; earlier ones are not replayed. One feeder
uses tf.data, the other needs no TensorFlow.
"""

import collections
import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from emergent_icl import randomness
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import Sampler
from emergent_icl.data.tensorflow import import_tensorflow

# Steps per call of a sampler. Another value would change the data of every seed.
BLOCK_STEPS = 32
# Minimum number of steps per element of tf.data: each costs nearly a millisecond of overhead.
ELEMENT_STEPS = 64
# Elements sampled ahead.
PREFETCH = 2

# Three arrays [steps, R, B / process_count, S]: the leaves of a SequenceBatch.
Leaves = list[np.ndarray]


class FeedSpec(NamedTuple):
    """Everything that the batches of a run depend on.

    A sampler and a seed for each of R replicas; B, S, and K = `steps_per_call`; and this host's
    contiguous share of the B sequences.
    """

    samplers: Sequence[Sampler]
    seeds: Sequence[int]
    batch_size: int
    seq_len: int
    steps_per_call: int = 1
    process_index: int = 0
    process_count: int = 1


def sample_block(spec: FeedSpec, block: int) -> SequenceBatch:
    """Samples a block of steps, int32 [BLOCK_STEPS, R, B / process_count, S]."""
    replicas = []
    rows = spec.batch_size // spec.process_count
    mine = slice(spec.process_index * rows, (spec.process_index + 1) * rows)
    for sampler, seed in zip(spec.samplers, spec.seeds, strict=True):
        rng = randomness.generator(seed, "train", block)
        batch = sampler(rng, BLOCK_STEPS * spec.batch_size)
        shape = (BLOCK_STEPS, spec.batch_size, spec.seq_len)
        replicas.append([np.reshape(leaf, shape)[:, mine] for leaf in batch])
    return SequenceBatch(*(np.stack(leaves, axis=1) for leaves in zip(*replicas, strict=True)))


@FEEDERS.register("python")
def python_feed(spec: FeedSpec, start_step: int) -> Iterator[SequenceBatch]:
    """Samples in a separate thread."""
    element = _element_sampler(spec, start_step)
    pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        ahead = collections.deque(pool.submit(element, index) for index in range(PREFETCH))
        for index in itertools.count(PREFETCH):
            leaves = ahead.popleft().result()
            ahead.append(pool.submit(element, index))
            yield from _items(leaves, spec.steps_per_call)
    finally:
        pool.shutdown(cancel_futures=True)


@FEEDERS.register("tfdata")
def tfdata_feed(spec: FeedSpec, start_step: int) -> Iterator[SequenceBatch]:
    """Samples in threads of tf.data."""
    tf = import_tensorflow()
    element = _element_sampler(spec, start_step)
    dataset = (
        tf.data.Dataset.range(np.iinfo(np.int64).max)
        .map(
            lambda index: tf.numpy_function(element, [index], [tf.int32] * 3, stateful=False),
            num_parallel_calls=PREFETCH,
            deterministic=True,
        )
        .prefetch(tf.data.AUTOTUNE)
    )
    iterator = dataset.as_numpy_iterator()
    try:
        for leaves in iterator:
            yield from _items(leaves, spec.steps_per_call)
    finally:
        # Its threads call Python and must end before the interpreter does.
        del iterator


def _element_sampler(spec: FeedSpec, start_step: int) -> Callable[[int], Leaves]:
    """Makes the function that samples element 0, 1, ..., counted from `start_step`."""
    # Blocks may overlap several elements, which are sampled concurrently.
    block = functools.lru_cache(maxsize=2 * PREFETCH)(functools.partial(sample_block, spec))
    count = max(1, ELEMENT_STEPS // spec.steps_per_call) * spec.steps_per_call

    def element(index: int) -> Leaves:
        start = start_step + int(index) * count
        first, last = start // BLOCK_STEPS, (start + count - 1) // BLOCK_STEPS
        wanted = slice(start - first * BLOCK_STEPS, start - first * BLOCK_STEPS + count)
        blocks = [block(index) for index in range(first, last + 1)]
        return [np.concatenate(leaves)[wanted] for leaves in zip(*blocks, strict=True)]

    return element


def _items(leaves: Sequence[np.ndarray], steps_per_call: int) -> Iterator[SequenceBatch]:
    for first in range(0, len(leaves[0]), steps_per_call):
        yield SequenceBatch(*(leaf[first : first + steps_per_call] for leaf in leaves))


def resolve_feeder(name: str, kind: str = "image", process_count: int = 1) -> str:
    """Replaces 'auto' by 'tfdata' where it helps and TensorFlow is installed, else by 'python'.

    Importing TensorFlow takes 2 seconds and 0.4 GB. On one host, tf.data is no faster than the
    other feeder; the paper's experiments, on images, use it all the same.
    """
    if name != "auto":
        return name
    if kind != "image" and process_count == 1:
        return "python"
    try:
        is_installed = importlib.util.find_spec("tensorflow") is not None
    except ValueError:  # A blocked module: sys.modules['tensorflow'] is None.
        is_installed = False
    return "tfdata" if is_installed else "python"
