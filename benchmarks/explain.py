"""Why a step takes as long as it does: its floor, its parts, its growth with what it is given.

The floor is its operations and bytes over what this machine can do. The bytes are those that the
compiled step passes from one operation to the next. What a cache keeps in between need not travel:
where the bytes decide, the floor is that of this program, and no law.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.records import Measurements, Settings, Table, number, text_of
from benchmarks.timing import Rival, time_in_turn
from emergent_icl.models.losses import query_loss
from emergent_icl.training.build import Experiment
from emergent_icl.training.cost import step_cost
from emergent_icl.training.optimizers import hyper_from_config

# -------------------------------------------------------------------------------- floor

MATRIX_SIZE, ACCELERATOR_MATRIX_SIZE = 2048, 8192
COPIED_BYTES = 2**28
RATES = {
    "matmul_float32": "matrix products, float32",
    "matmul_bfloat16": "matrix products, bfloat16",
    "copy": "memory, read and written",
    "read": "memory, read alone",
}


def measure_rates(found: Measurements, rounds: int, seconds: float) -> None:
    """Times large matrix products in float32 and bfloat16, a large copy and a large sum.

    A sum reads alone: where a copy must fetch what it is about to overwrite, it is the faster.
    """
    size = MATRIX_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_MATRIX_SIZE
    source = jnp.ones((COPIED_BYTES // 4096, 1024), jnp.float32)
    product = jax.jit(lambda matrix: matrix @ matrix)
    rivals = {
        "matmul_float32": _repeated(product, jnp.ones((size, size), jnp.float32)),
        "matmul_bfloat16": _repeated(product, jnp.ones((size, size), jnp.bfloat16)),
        # No plain copy, which would be the same array again.
        "copy": _repeated(jax.jit(jnp.negative), source),
        "read": _repeated(jax.jit(lambda x: jnp.sum(x, axis=1)), source),
    }
    amounts = {"copy": 2 * source.nbytes, "read": source.nbytes}
    for name, samples in time_in_turn(rivals, rounds, seconds).items():
        amount, unit = (amounts[name], "GB/s") if name in amounts else (2 * size**3, "GFLOP/s")
        found.record(f"rate_{name}", [amount / one / 1e9 for one in samples], unit)


def find_floor(found: Measurements, experiment: Experiment, settings: Settings) -> None:
    """Records the least time of the step that was measured, at the best rates that were seen."""
    measure_rates(found, settings.rounds, settings.seconds / 8)
    rates = {name: found.by_name[f"rate_{name}"] for name in RATES}
    cost = step_cost(experiment.config, experiment.task, compiled=True)
    compute_s = cost.flops / (rates["matmul_float32"].max * 1e9)
    memory_s = cost.moved_bytes / (max(rates["copy"].max, rates["read"].max) * 1e9)
    floor_s = max(compute_s, memory_s)
    step = found.by_name[f"step_{settings.subject}_compute_ours"].median
    over = step / 1e3 / floor_s
    if settings.subject == "paper":
        found.figures["paper_step_over_floor"] = over
    found.extra["floor"] = {
        "flops": cost.flops, "xla_flops": cost.xla_flops, "bytes": cost.moved_bytes,
        "compute_s": compute_s, "memory_s": memory_s, "seconds": floor_s, "step_over_floor": over,
    }  # fmt: skip
    rows = {
        "operations of a step": f"{number(cost.flops / 1e9)} GFLOP",
        "... as XLA counts them": f"{number(cost.xla_flops / 1e9)} GFLOP",
        "bytes that it moves": f"{number(cost.moved_bytes / 1e9)} GB",
        **{RATES[name]: f"{text_of(rate)} {rate.unit}" for name, rate in rates.items()},
        "least time by arithmetic": f"{number(compute_s * 1e3)} ms",
        "least time by memory": f"{number(memory_s * 1e3)} ms",
        "the step": f"{number(step)} ms",
        "the step over its floor": f"{over:.3g} x",
    }
    found.tables.append(Table("The floor of a step", list(rows), {"": list(rows.values())}))


def _repeated(function: Callable[..., Any], *arguments: Any) -> Rival:
    """Calls, each of which is waited for."""

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(function(*arguments))

    return Rival(run)


# -------------------------------------------------------------------------------- parts

PARTS = {
    "look_up": "look up and scale the examples",
    "encoder_forward": "encoder, forward",
    "encoder_backward": "encoder, backward",
    "sequence_model": "sequence model, forward and backward",
    "optimizer": "optimizer",
    "feed": "feed: wait for a batch and lay it out",
}


def find_parts(
    found: Measurements, experiment: Experiment, feed: Sequence[float], settings: Settings
) -> None:
    """Records milliseconds of each of PARTS, compiled and timed apart.

    The backward pass of the encoder is the time of both passes less that of the forward pass.
    Parts compiled apart are not fused with one another: their sum need not be the step's time.

    `feed` has seconds a step for which the training loop waited, while the device computed.
    """
    rivals = _compiled_parts(experiment)
    samples = time_in_turn(rivals, settings.rounds, settings.seconds / 2)
    passes = zip(samples.pop("encoder_both"), samples["encoder_forward"], strict=True)
    samples["encoder_backward"] = [max(both - forward, 0.0) for both, forward in passes]
    samples["feed"] = list(feed)
    parts = {
        name: found.record(f"part_{name}", [1e3 * one for one in samples[name]], "ms/step")
        for name in PARTS
    }
    found.extra["profile"] = {name: part.median for name, part in parts.items()}
    total = sum(part.median for part in parts.values())
    step = found.by_name[f"step_{settings.subject}_compute_ours"].median
    columns = {
        "ms": [*map(text_of, parts.values()), number(total), number(step)],
        "share": [*(f"{part.median / total:.1%}" for part in parts.values()), "100.0%", ""],
    }
    title = f"Where a step of '{settings.config.name}' spends its time"
    headings = [*PARTS.values(), "sum of the parts", "the whole step"]
    found.tables.append(Table(title, headings, columns))


def _compiled_parts(experiment: Experiment) -> dict[str, Rival]:
    network, config = experiment.network, experiment.config
    state, bank = experiment.init(0), jax.device_put(experiment.arrays())
    batch = experiment.task.training.sample(np.random.default_rng(0), config.training.batch_size)
    keys = jnp.zeros((config.training.batch_size, 2), jnp.uint32)
    params, stats = state.params, state.batch_stats

    look_up = jax.jit(experiment.materialize)
    noise_scale = hyper_from_config(config).noise_scale
    ids = (bank, batch.class_ids, batch.exemplar_ids, keys, noise_scale)
    examples = look_up(*ids)
    flat = jnp.reshape(examples, (-1, *examples.shape[2:]))

    @jax.jit
    def forward(params: Any, flat: jax.Array) -> Any:
        return network.encode(params, stats, flat, True)

    @jax.jit
    def both(params: Any, flat: jax.Array) -> Any:
        return jax.grad(lambda p: jnp.sum(network.encode(p, stats, flat, True)[0]))(params)

    @jax.jit
    def sequence_model(params: Any, embeddings: jax.Array) -> Any:
        def loss(params: Any, embeddings: jax.Array) -> jax.Array:
            logits = network.predict(params, keys, embeddings, batch.labels, True)
            return jnp.mean(query_loss(logits, batch.labels))

        return jax.value_and_grad(loss, argnums=(0, 1))(params, embeddings)

    embeddings = jnp.reshape(forward(params, flat)[0], (*batch.labels.shape, -1))
    return {
        "look_up": _repeated(look_up, *ids),
        "encoder_forward": _repeated(forward, params, flat),
        "encoder_both": _repeated(both, params, flat),
        "sequence_model": _repeated(sequence_model, params, embeddings),
        "optimizer": _optimizer_updates(experiment),
    }


def _optimizer_updates(experiment: Experiment) -> Rival:
    """Updates of parameters that are given away, as in a step."""
    optimizer, hyper = experiment.optimizer, hyper_from_config(experiment.config)
    state = experiment.init(0)
    gradients = jax.tree.map(jnp.ones_like, state.params)

    def update(params: Any, opt_state: Any) -> Any:
        updates, opt_state = optimizer.update(gradients, opt_state, params, hyper, state.step)
        return optax.apply_updates(params, updates), opt_state

    donating = jax.jit(update, donate_argnums=(0, 1))
    current = (state.params, state.opt_state)

    def run(count: int) -> None:
        nonlocal current
        for _ in range(count):
            current = donating(*current)
        jax.block_until_ready(current)

    return Rival(run)


# ------------------------------------------------------------------------------- growth

# An exponent is worse than that of the arithmetic only beyond what noise makes of it.
TOLERANCE = 0.2


class Point(NamedTuple):
    """A step at one size of what is varied; operations and bytes as in StepCost."""

    size: int
    seconds: float
    flops: float
    bytes: float


class Growth(NamedTuple):
    """Exponents between two neighboring sizes: cost ~ size^exponent."""

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
    """Between neighbors, in order of size."""
    return [
        Growth(
            one.size,
            other.size,
            *(
                math.log(more / cost) / math.log(other.size / one.size)
                for cost, more in zip(one[1:], other[1:], strict=True)
            ),
        )
        for one, other in itertools.pairwise(sorted(points))
    ]


def verdict(found: Mapping[str, Sequence[Growth]]) -> list[str]:
    """A sentence for each growth that is worse than that of the arithmetic, or one for none."""
    worse = [
        f"{name} {one.start:,} -> {one.stop:,}: time grows as size^{one.time:.2f}, "
        f"operations as size^{one.flops:.2f}, memory traffic as size^{one.bytes:.2f}"
        for name, several in found.items()
        for one in several
        if one.is_worse
    ]
    return worse or ["Nothing grows faster than its operations or its memory traffic."]
