"""Why a step takes as long as it does: its floor, its parts, its growth with what it is given.

The floor is its operations and bytes over what this machine can do. The bytes are those that the
compiled step passes from one operation to the next. What a cache keeps in between need not travel:
where the bytes decide, the floor is that of this program, and no law.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from benchmarks.measure import Benchmark, Rival, number, repeated, text_of, time_in_turn
from benchmarks.workloads import our_steps
from emergent_icl.cli import console, tables
from emergent_icl.config.configs import with_options
from emergent_icl.data.task import make_task
from emergent_icl.models.losses import query_loss
from emergent_icl.presets import omniglot
from emergent_icl.training.build import Experiment
from emergent_icl.training.cost import step_cost
from emergent_icl.training.optimizers import hyper_from_config

# ------------------------------------------------------------------------------ floor

MATRIX_SIZE, ACCELERATOR_MATRIX_SIZE = 2048, 8192
COPIED_BYTES = 2**28


def measure_rates(bench: Benchmark) -> dict[str, float]:
    """Measures the best rates of this machine, in billions of operations and of bytes a second.

    A sum reads alone: where a copy must fetch what it is about to overwrite, it is the faster.
    """
    size = MATRIX_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_MATRIX_SIZE
    products = {
        f"matmul_{dtype}": _calls(
            jax.jit(jnp.matmul), *[jnp.ones((size, size), dtype)] * 2, amount=2 * size**3 / 1e9
        )
        for dtype in ("float32", "bfloat16")
    }
    source = jnp.ones((COPIED_BYTES // 4096, 1024), jnp.float32)
    read = source.nbytes / 1e9
    passes = {
        # No plain copy, which would be the same array again.
        "copy": _calls(jax.jit(jnp.negative), source, amount=2 * read),
        "read": _calls(jax.jit(lambda x: jnp.sum(x, axis=1)), source, amount=read),
    }
    bench.compare("Matrix products", "rate_{}", products, "GFLOP/s", share=1 / 8)
    bench.compare("Memory, copied and read alone", "rate_{}", passes, "GB/s", share=1 / 8)
    return {name: bench.by_name[f"rate_{name}"].max for name in (*products, *passes)}


def find_floor(bench: Benchmark, experiment: Experiment) -> None:
    """Records and prints the least time of the step that was measured, at the best rates seen."""
    rates = measure_rates(bench)
    cost = step_cost(experiment.config, experiment.task, compiled=True)
    assert cost.moved_bytes is not None
    compute_s = cost.flops / (rates["matmul_float32"] * 1e9)
    memory_s = cost.moved_bytes / (max(rates["copy"], rates["read"]) * 1e9)
    floor_s = max(compute_s, memory_s)
    subject, _ = bench.first
    step = bench.by_name[f"step_{subject}_compute_ours"].median
    over = step / 1e3 / floor_s
    bench.ratios[f"step_{subject}_over_floor"] = over
    bench.extra["floor"] = {
        "flops": cost.flops, "xla_flops": cost.xla_flops, "bytes": cost.moved_bytes,
        "compute_s": compute_s, "memory_s": memory_s, "seconds": floor_s, "step_over_floor": over,
    }  # fmt: skip
    facts = {
        "operations of a step": f"{number(cost.flops / 1e9)} GFLOP",
        "bytes that it moves": f"{number(cost.moved_bytes / 1e9)} GB",
        "least time by arithmetic": f"{number(compute_s * 1e3)} ms",
        "least time by memory": f"{number(memory_s * 1e3)} ms",
        "the step": f"{number(step)} ms",
        "the step over its floor": f"{over:.3g} x",
    }
    tables.print_facts("The floor of a step", facts)


# ------------------------------------------------------------------------------ parts

# The backward pass of the encoder is the time of both passes less that of the forward pass.
PARTS = (
    "look_up", "encoder_forward", "encoder_backward", "sequence_model", "optimizer", "feed",
)  # fmt: skip


def find_parts(bench: Benchmark, experiment: Experiment, feed: Sequence[float]) -> None:
    """Records and prints milliseconds of each of PARTS, compiled and timed apart.

    Parts compiled apart are not fused with one another: their sum need not be the step's time.
    `feed` has seconds a step for which the training loop waited, while the device computed.
    """
    samples = time_in_turn(_compiled_parts(experiment), bench.rounds, bench.seconds / 2)
    passes = zip(samples["encoder_both"], samples["encoder_forward"], strict=True)
    samples["encoder_backward"] = [max(both - forward, 0.0) for both, forward in passes]
    samples["feed"] = list(feed)
    parts = {
        name: bench.record(f"part_{name}", [1e3 * one for one in samples[name]], "ms/step")
        for name in PARTS
    }
    bench.extra["profile"] = {name: part.median for name, part in parts.items()}
    total = sum(part.median for part in parts.values())
    subject, config = bench.first
    step = bench.by_name[f"step_{subject}_compute_ours"].median
    columns = {
        "ms": [*map(text_of, parts.values()), number(total), number(step)],
        "share": [*(f"{part.median / total:.1%}" for part in parts.values()), "100.0%", ""],
    }
    title = f"Where a step of '{config.name}' spends its time"
    headings = [*(part.replace("_", " ") for part in PARTS), "sum of the parts", "the whole step"]
    tables.print_columns(title, headings, columns)


def _compiled_parts(experiment: Experiment) -> dict[str, Rival]:
    network, config = experiment.network, experiment.config
    state, bank = experiment.init(0), jax.device_put(experiment.arrays())
    batch = experiment.task.training.sample(np.random.default_rng(0), config.training.batch_size)
    keys = jnp.zeros((config.training.batch_size, 2), jnp.uint32)
    params, stats = state.params, state.batch_stats

    look_up = jax.jit(experiment.materialize)
    hyper = hyper_from_config(config)
    ids = (bank, batch.class_ids, batch.exemplar_ids, keys, hyper.noise_scale)
    examples = look_up(*ids)
    flat = jnp.reshape(examples, (-1, *examples.shape[2:]))

    @jax.jit
    def forward(params: Any, flat: jax.Array) -> Any:
        return network.encode(params, stats, flat, True)

    @jax.jit
    def both(params: Any, flat: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.sum(forward(params, flat)[0]))(params)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def sequence_model(params: Any, embeddings: jax.Array) -> jax.Array:
        logits = network.predict(params, keys, embeddings, batch.labels, True)
        return jnp.mean(query_loss(logits, batch.labels))

    @jax.jit
    def optimizer(gradients: Any, opt_state: Any, params: Any) -> Any:
        update = experiment.optimizer.update
        updates, opt_state = update(gradients, opt_state, params, hyper, state.step)
        return optax.apply_updates(params, updates), opt_state

    embeddings = jnp.reshape(forward(params, flat)[0], (*batch.labels.shape, -1))
    return {
        "look_up": _calls(look_up, *ids),
        "encoder_forward": _calls(forward, params, flat),
        "encoder_both": _calls(both, params, flat),
        "sequence_model": _calls(sequence_model, params, embeddings),
        "optimizer": _calls(optimizer, params, state.opt_state, params),
    }


def _calls(function: Callable[..., Any], *arguments: Any, amount: float = 1) -> Rival:
    """Calls of a compiled function, each of which is waited for."""
    return repeated(lambda: jax.block_until_ready(function(*arguments)), amount)


# ----------------------------------------------------------------------------- growth

HOLDOUT = 10
# As many as few-shot sequences need: a hundred thousand classes then take 400 MB.
DRAWINGS = 5
# An exponent is worse than that of the arithmetic only beyond what noise makes of it.
TOLERANCE = 0.2


def _classes(count: int) -> dict[str, Any]:
    """Options: so many rare classes of images."""
    return {
        "data.source": "glyphs",
        "data.glyphs.num_classes": count + HOLDOUT,
        "data.glyphs.num_exemplars": DRAWINGS,
        "data.split.num_rare": count,
        "data.split.num_common": 0,
        "data.split.num_holdout": HOLDOUT,
    }


# What is varied: its sizes, and the options of each. The devices are virtual ones, for which the
# same work is cut into more pieces.
AXES: dict[str, tuple[tuple[int, ...], Callable[[int], dict[str, Any]]]] = {
    "batch": ((8, 32, 128, 512), lambda size: {"training.batch_size": size}),
    "classes": ((100, 1_000, 10_000, 100_000), _classes),
    "context pairs": ((8, 16, 32, 64), lambda size: {"data.sequences.seq_len": size + 1}),
    "layers": ((1, 2, 4, 8, 16), lambda size: {"model.num_layers": size}),
    "devices": ((1, 2, 4), lambda size: {}),
}


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

    def __str__(self) -> str:
        return (
            f"{self.start:,} -> {self.stop:,}: time grows as size^{self.time:.2f}, "
            f"operations as size^{self.flops:.2f}, memory traffic as size^{self.bytes:.2f}"
        )


def scaling(bench: Benchmark) -> None:
    """Steps on random images; says where time grows faster than the operations."""
    small, grown, entries = omniglot.get_config("small"), {}, {}
    for axis, (sizes, options) in AXES.items():
        if axis == "devices" and jax.default_backend() != "cpu":
            continue
        console.say(f"  step time against {axis} ...")
        points = [
            _point(bench, axis, size, with_options(small, {**_classes(1_600), **options(size)}))
            for size in sizes
        ]
        grown[axis] = growths(points)
        costs = [f"{number(p.seconds * 1e3)} ms, {number(p.flops / 1e9)} GFLOP" for p in points]
        title = f"A step against {axis}, small preset on random images"
        tables.print_facts(title, dict(zip(map(str, sizes), costs, strict=True)))
        console.say("\n".join(map(str, grown[axis])))
        entries[axis] = {
            "points": [point._asdict() for point in points],
            "exponents": [growth._asdict() for growth in grown[axis]],
        }
    sentences = verdict(grown)
    bench.extra["growth"] = {**entries, "verdict": sentences}
    console.say("\n".join(sentences))


def _point(bench: Benchmark, axis: str, size: int, config: ml_collections.ConfigDict) -> Point:
    """Times a step at one size."""
    name, flag = f"scaling_{axis}_{size}", f"--xla_force_host_platform_device_count={size}"
    with our_steps(config, flag if axis == "devices" else None, random_images=True) as rival:
        bench.compare("", name, {"ours": rival}, share=0.5)
    cost = step_cost(config, make_task(config), compiled=True)
    assert cost.moved_bytes is not None
    return Point(size, bench.by_name[name].median / 1e3, cost.flops, cost.moved_bytes)


def growths(points: Sequence[Point]) -> list[Growth]:
    """Between neighbors, in order of size."""
    points = sorted(points)
    steps = np.diff(np.log(np.array(points, float)), axis=0)
    exponents = (steps[:, 1:] / steps[:, :1]).tolist()
    return [
        Growth(one.size, other.size, *found)
        for (one, other), found in zip(itertools.pairwise(points), exponents, strict=True)
    ]


def verdict(found: Mapping[str, Sequence[Growth]]) -> list[str]:
    """Says where time grows faster than both, the operations and the memory traffic."""
    worse = [
        f"{name} {one}"
        for name, several in found.items()
        for one in several
        if one.time > max(one.flops, one.bytes) + TOLERANCE
    ]
    return worse or ["Nothing grows faster than its operations or its memory traffic."]
