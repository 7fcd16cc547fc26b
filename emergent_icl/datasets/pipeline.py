"""The way of the indices: sampler -> blocks of steps -> host shard -> training loop.

A batch is a pure function of (seed, step). Two feeders yield the same batches: one on
tf.data, one in plain Python for machines without TensorFlow. Either starts at any
step without replaying what came before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from emergent_icl import seeds
from emergent_icl.datasets.class_space import SequenceBatch
from emergent_icl.datasets.quiet_tensorflow import import_tensorflow
from emergent_icl.datasets.sequences import Sampler
from emergent_icl.registry import Registry

# Steps drawn by one call of a sampler. Part of what a seed means: another value would
# give every run other data.
BLOCK_STEPS = 32
PREFETCH_BLOCKS = 2


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
    """Steps [block * BLOCK_STEPS, (block + 1) * BLOCK_STEPS) of this host's share.

    Returns:
      int32 [BLOCK_STEPS, R, B / host_count, S].
    """
    replicas = []
    rows = spec.batch_size // spec.host_count
    mine = slice(spec.host_index * rows, (spec.host_index + 1) * rows)
    for sampler, seed in zip(spec.samplers, spec.seeds, strict=True):
        rng = seeds.generator(seed, "train", block)
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
    """The same batches as `python_feed`, sampled by tf.data's own threads."""
    tf = import_tensorflow()
    first_block, offset = divmod(start_step, BLOCK_STEPS)
    rows = spec.batch_size // spec.host_count
    shape = (BLOCK_STEPS, len(spec.samplers), rows, spec.seq_len)

    def sample(block: Any) -> tuple[Any, ...]:
        leaves = tf.numpy_function(
            lambda b: tuple(sample_block(spec, int(b))), [block], [tf.int32] * 3, stateful=False
        )
        return tuple(tf.ensure_shape(leaf, shape) for leaf in leaves)

    dataset = (
        tf.data.Dataset.range(first_block, np.iinfo(np.int64).max)
        .map(sample, num_parallel_calls=PREFETCH_BLOCKS, deterministic=True)
        .unbatch()
        .skip(offset)
        .batch(spec.steps_per_call, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    iterator = dataset.as_numpy_iterator()
    try:
        for leaves in iterator:
            yield SequenceBatch(*leaves)
    finally:
        # Its threads call back into Python: they must end before the interpreter does.
        del iterator


FEEDERS: Registry = Registry("feeder")
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
