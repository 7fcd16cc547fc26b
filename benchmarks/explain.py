"""Explains the time of a step: lower bound, parts, growth with size.

The lower bound follows from the operations and bytes of a step and the best rates of this machine.
The bytes are those that the compiled step passes from one operation to the next. Caches can save
some of them, so a bound that is set by bytes applies to this program, not to the computation.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from benchmarks import suites
from benchmarks.measure import Benchmark, Rival, number, repeated
from emergent_icl.cli import console, tables
from emergent_icl.config.configs import with_options
from emergent_icl.data.task import make_task
from emergent_icl.models.losses import query_loss
from emergent_icl.presets import omniglot
from emergent_icl.training.build import Experiment
from emergent_icl.training.cost import step_cost
from emergent_icl.training.optimizers import hyper_from_config


def step(bench: Benchmark) -> None:
    """Training steps, and the lower bound on the first config's step and its parts."""
    experiment, waits = suites.step(bench)
    console.say("  lower bound, and parts of a step ...")
    find_floor(bench, experiment)
    find_parts(bench, experiment, waits)


def _step_ms(bench: Benchmark) -> float:
    return bench.by_name[f"step_{bench.first[0]}_compute_ours"].median


# ------------------------------------------------------------------------- lower bound

MATRIX_SIZE, ACCELERATOR_MATRIX_SIZE = 2048, 8192
COPIED_BYTES = 2**28


def measure_rates(bench: Benchmark) -> dict[str, float]:
    """The best rates of this machine, in 10^9 operations and 10^9 bytes per second.

    A sum only reads memory, which is faster if a copy must also fetch what it overwrites.
    """
    size = MATRIX_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_MATRIX_SIZE
    products = {
        f"matmul_{dtype}": _calls(
            jnp.matmul, *[jnp.ones((size, size), dtype)] * 2, amount=2 * size**3 / 1e9
        )
        for dtype in ("float32", "bfloat16")
    }
    source = jnp.ones((COPIED_BYTES // 4096, 1024), jnp.float32)
    read = source.nbytes / 1e9
    passes = {
        # A plain copy would be optimized away.
        "copy": _calls(jnp.negative, source, amount=2 * read),
        "read": _calls(lambda x: jnp.sum(x, axis=1), source, amount=read),
    }
    bench.compare("Matrix products", "rate_{}", products, "GFLOP/s", share=1 / 8)
    bench.compare("Memory, copy and read only", "rate_{}", passes, "GB/s", share=1 / 8)
    return {name: bench.by_name[f"rate_{name}"].max for name in (*products, *passes)}


def find_floor(bench: Benchmark, experiment: Experiment) -> None:
    """Records and prints the lower bound on the step that was measured."""
    rates = measure_rates(bench)
    cost = step_cost(experiment.config, experiment.task, compiled=True)
    assert cost.moved_bytes is not None
    compute_s = cost.flops / (rates["matmul_float32"] * 1e9)
    memory_s = cost.moved_bytes / (max(rates["copy"], rates["read"]) * 1e9)
    floor_s = max(compute_s, memory_s)
    step = _step_ms(bench)
    over = bench.ratios[f"step_{bench.first[0]}_over_floor"] = step / 1e3 / floor_s
    bench.extra["floor"] = {
        "flops": cost.flops, "xla_flops": cost.xla_flops, "bytes": cost.moved_bytes,
        "compute_s": compute_s, "memory_s": memory_s, "seconds": floor_s, "step_over_floor": over,
    }  # fmt: skip
    facts = {
        "operations per step": f"{number(cost.flops / 1e9)} GFLOP",
        "bytes moved per step": f"{number(cost.moved_bytes / 1e9)} GB",
        "minimum time for arithmetic": f"{number(compute_s * 1e3)} ms",
        "minimum time for memory": f"{number(memory_s * 1e3)} ms",
        "the step": f"{number(step)} ms, {over:.3g} times the lower bound",
    }
    tables.print_facts("Lower bound on a step", facts)


# ------------------------------------------------------------------------------- parts

PARTS = (
    "look_up", "encoder_forward", "encoder_backward", "sequence_model", "optimizer", "feed",
)  # fmt: skip


def find_parts(bench: Benchmark, experiment: Experiment, waits: Sequence[float]) -> None:
    """Records and prints the milliseconds of each of PARTS, compiled and timed separately.

    Separate parts are not fused with one another, so their sum may differ from the step's time.
    `waits` are seconds per step for which the training loop waited for its feed.
    """
    bench.compare("", "part_{}", _compiled_parts(experiment), share=0.5)
    bench.record("part_feed", [1e3 * wait for wait in waits], "ms/step")
    parts = {name: bench.by_name[f"part_{name}"] for name in PARTS}
    bench.extra["profile"] = {name: part.median for name, part in parts.items()}
    total = sum(part.median for part in parts.values())
    facts = {
        name.replace("_", " "): f"{part}, {part.median / total:.1%}" for name, part in parts.items()
    }
    facts |= {"sum of the parts": number(total), "the whole step": number(_step_ms(bench))}
    tables.print_facts(f"Parts of a step, {bench.first[0]}, ms and share", facts)


def _compiled_parts(experiment: Experiment) -> dict[str, Rival]:
    """Every part but the feed."""
    network, config = experiment.network, experiment.config
    state, bank = experiment.init(0), jax.device_put(experiment.arrays())
    batch = experiment.task.training.sample(np.random.default_rng(0), config.training.batch_size)
    keys = jnp.zeros((config.training.batch_size, 2), jnp.uint32)
    hyper = hyper_from_config(config)

    def forward(params: Any, flat: jax.Array) -> jax.Array:
        return network.encode(params, state.batch_stats, flat, True)[0]

    def sequence_loss(params: Any, embeddings: jax.Array) -> jax.Array:
        logits = network.predict(params, keys, embeddings, batch.labels, True)
        return jnp.mean(query_loss(logits, batch.labels))

    def optimizer(gradients: Any, opt_state: Any, params: Any) -> Any:
        update = experiment.optimizer.update
        updates, opt_state = update(gradients, opt_state, params, hyper, state.step)
        return optax.apply_updates(params, updates), opt_state

    ids = (bank, batch.class_ids, batch.exemplar_ids, keys, hyper.noise_scale)
    examples = jax.jit(experiment.materialize)(*ids)
    flat = jnp.reshape(examples, (-1, *examples.shape[2:]))
    embed = functools.partial(forward, flat=flat)
    embeddings, backward = jax.jit(functools.partial(jax.vjp, embed))(state.params)
    embeddings_BSD = jnp.reshape(embeddings, (*batch.labels.shape, -1))
    sequence_model = jax.value_and_grad(sequence_loss, (0, 1))
    return {
        "look_up": _calls(experiment.materialize, *ids),
        "encoder_forward": _calls(forward, state.params, flat),
        "encoder_backward": _calls(lambda pull, x: pull(x), backward, embeddings),
        "sequence_model": _calls(sequence_model, state.params, embeddings_BSD),
        "optimizer": _calls(optimizer, state.params, state.opt_state, state.params),
    }


def _calls(function: Callable[..., Any], *arguments: Any, amount: float = 1) -> Rival:
    compiled = jax.jit(function)
    return repeated(lambda: jax.block_until_ready(compiled(*arguments)), amount)


# ----------------------------------------------------------------------------- growth

HOLDOUT = 10
# The number that few-shot sequences need: 100,000 classes take 400 MB.
DRAWINGS = 5
# Exponents of time that exceed those of the arithmetic by less may be due to noise.
TOLERANCE = 0.2


def _classes(count: int) -> dict[str, Any]:
    """Options for `count` rare classes of images."""
    return {
        "data.source": "glyphs",
        "data.glyphs.num_classes": count + HOLDOUT,
        "data.glyphs.num_exemplars": DRAWINGS,
        "data.split.num_rare": count,
        "data.split.num_common": 0,
        "data.split.num_holdout": HOLDOUT,
    }


# Axis -> sizes, and the options of each. Devices are virtual: the same work in more pieces.
AXES: dict[str, tuple[tuple[int, ...], Callable[[int], dict[str, Any]]]] = {
    "batch": ((8, 32, 128, 512), lambda size: {"training.batch_size": size}),
    "classes": ((100, 1_000, 10_000, 100_000), _classes),
    "context pairs": ((8, 16, 32, 64), lambda size: {"data.sequences.seq_len": size + 1}),
    "layers": ((1, 2, 4, 8, 16), lambda size: {"model.num_layers": size}),
    "devices": ((1, 2, 4), lambda size: {}),
}


class Point(NamedTuple):
    """A step at one size; operations and bytes as in StepCost."""

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
    """Steps on random images, along each axis; prints where time outgrows the operations."""
    small = with_options(omniglot.get_config("small"), _classes(1_600))
    grown, entries = {}, {}
    for axis, (sizes, options) in AXES.items():
        if axis == "devices" and jax.default_backend() != "cpu":
            continue
        console.say(f"  step time against {axis} ...")
        points = [_point(bench, axis, size, with_options(small, options(size))) for size in sizes]
        grown[axis] = growths(points)
        costs = (f"{number(p.seconds * 1e3)} ms, {number(p.flops / 1e9)} GFLOP" for p in points)
        title = f"A step against {axis}, small preset on random images"
        tables.print_facts(title, dict(zip(map(str, sizes), costs, strict=True)))
        console.say("\n".join(map(str, grown[axis])))
        entries[axis] = {
            "points": [point._asdict() for point in points],
            "exponents": [growth._asdict() for growth in grown[axis]],
        }
    bench.extra["growth"] = {**entries, "verdict": verdict(grown)}
    console.say("\n".join(verdict(grown)))


def _point(bench: Benchmark, axis: str, size: int, config: ml_collections.ConfigDict) -> Point:
    name = f"scaling_{axis}_{size}"
    flags = f"--xla_force_host_platform_device_count={size}" if axis == "devices" else None
    with bench.stack:
        ours = suites.our_steps(bench.stack, config, flags, random_images=True)
        bench.compare("", name, {"ours": ours}, share=0.5)
    cost = step_cost(config, make_task(config), compiled=True)
    assert cost.moved_bytes is not None
    return Point(size, bench.by_name[name].median / 1e3, cost.flops, cost.moved_bytes)


def growths(points: Sequence[Point]) -> list[Growth]:
    """Growth between neighbors, in order of size."""
    points = sorted(points)
    steps = np.diff(np.log(np.array(points, float)), axis=0)
    exponents = (steps[:, 1:] / steps[:, :1]).tolist()
    return [
        Growth(one.size, other.size, *found)
        for (one, other), found in zip(itertools.pairwise(points), exponents, strict=True)
    ]


def verdict(found: Mapping[str, Sequence[Growth]]) -> list[str]:
    """States where time grows faster than both operations and memory traffic."""
    worse = [
        f"{name} {one}"
        for name, several in found.items()
        for one in several
        if one.time > max(one.flops, one.bytes) + TOLERANCE
    ]
    return worse or ["Nothing grows faster than its operations or its memory traffic."]
