"""How fast a step could be: its operations and bytes over what this machine can do.

The bytes are those that the compiled step passes from one operation to the next. What a cache
keeps in between need not travel: where the bytes decide, the floor is that of this program,
and no law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import Block, Measurement, repeat, summarise
from emergent_icl.data.sequences.class_space import SequenceBatch
from emergent_icl.training.build import Experiment
from emergent_icl.training.cost import count_flops
from emergent_icl.training.optimizers import hyper_from_config
from emergent_icl.training.update import make_update

MATRIX_SIZE = 2048
ACCELERATOR_MATRIX_SIZE = 8192
COPIED_BYTES = 2**28


class Rates(NamedTuple):
    """What the machine can do, each with its spread.

    Attributes:
      matmul: of matrix products, by precision, GFLOP/s.
      copy: bytes read and bytes written, GB/s.
      read: bytes read alone, GB/s: where a copy must fetch what it is about to overwrite,
        this is the faster.
    """

    matmul: dict[str, Measurement]
    copy: Measurement
    read: Measurement

    @property
    def bandwidth(self) -> float:
        """The best that was seen, bytes a second."""
        return max(self.copy.max, self.read.max) * 1e9


class Floor(NamedTuple):
    """The least time of a step.

    Attributes:
      flops: operations of a step; see `count_flops`.
      xla_flops: XLA's own count, in which the body of a loop counts once.
      bytes: read and written by the compiled step, as XLA counts them (loops likewise).
      compute_s: flops over the rate of float32 matrix products.
      memory_s: bytes over the best bandwidth.
    """

    flops: float
    xla_flops: float
    bytes: float
    compute_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """Neither arithmetic nor memory traffic can be done in less."""
        return max(self.compute_s, self.memory_s)


def measure_rates(rounds: int) -> Rates:
    """Times large matrix products in float32 and bfloat16, a large copy and a large sum."""
    size = MATRIX_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_MATRIX_SIZE
    matmul = {}
    for precision in ("float32", "bfloat16"):
        matrix = jnp.ones((size, size), precision)
        product = jax.jit(jnp.matmul)
        block = Block(lambda f=product, x=matrix: jax.block_until_ready(f(x, x)))
        rates = [2 * size**3 / seconds / 1e9 for seconds in repeat(block, rounds, warmup=1)]
        matmul[precision] = summarise(f"rate_matmul_{precision}", rates, "GFLOP/s")
    source = jnp.ones((COPIED_BYTES // 4096, 1024), jnp.float32)
    # Not a plain copy, which would be the same array again.
    copy = _bandwidth("rate_copy", jax.jit(jnp.negative), source, 2, rounds)
    read = _bandwidth("rate_read", jax.jit(lambda x: jnp.sum(x, axis=1)), source, 1, rounds)
    return Rates(matmul, copy, read)


def _bandwidth(
    name: str, function: Callable[..., Any], source: jax.Array, passes: int, rounds: int
) -> Measurement:
    block = Block(lambda: jax.block_until_ready(function(source)))
    samples = repeat(block, rounds, warmup=1)
    return summarise(name, [passes * source.nbytes / sample / 1e9 for sample in samples], "GB/s")


def estimate_floor(experiment: Experiment, rates: Rates) -> Floor:
    """Counts the operations and bytes of one device's step, and divides by the best rates."""
    step, arguments = plain_step(experiment)
    analysis = jax.jit(step, donate_argnums=0).lower(*arguments).compile().cost_analysis()
    flops = float(count_flops(step, *arguments))
    traffic = float(analysis["bytes accessed"])
    return Floor(
        flops,
        float(analysis["flops"]),
        traffic,
        flops / (rates.matmul["float32"].max * 1e9),
        traffic / rates.bandwidth,
    )


def plain_step(experiment: Experiment) -> tuple[Any, tuple[Any, ...]]:
    """The update on one device without any mapping, and the shapes of its arguments."""
    config = experiment.config
    update = make_update(
        experiment.network,
        experiment.optimizer,
        experiment.materialise,
        interim_weight=config.training.interim_weight,
    )
    kind = experiment.task.training
    ids = jax.ShapeDtypeStruct((config.training.batch_size, kind.seq_len), jnp.int32)
    bank = experiment.arrays()
    state = jax.eval_shape(lambda: experiment.init(0))
    batch = SequenceBatch(ids, ids, ids)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), bank)
    return update, (state, hyper_from_config(config), shapes, batch)
