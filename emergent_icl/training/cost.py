"""What a config costs before it is run: parameters, operations, memory, time."""

import math
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr
from ml_collections import ConfigDict

from emergent_icl.data.bank import NUM_VARIANTS, DeviceBank, SourceShape
from emergent_icl.data.materialize import make_materialize
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.task import Task
from emergent_icl.training import settings
from emergent_icl.training.build import blank_inputs, build_network, weight_shapes
from emergent_icl.training.optimizers import hyper_from_config, make_optimizer
from emergent_icl.training.step import norm_steps
from emergent_icl.training.update import init_state, make_update, norm_when

# Size of the stand-in for the data: the cost of a step does not depend on the examples.
STAND_IN_CLASSES, STAND_IN_EXEMPLARS = 16, 2
TIMED_BLOCKS = 3


class StepCost(NamedTuple):
    """What a training step costs on one device; None if it was not compiled or timed."""

    flops: int  # for the whole batch, see `count_flops`
    bank_bytes: int  # of all examples, as stored
    state_bytes: int  # of parameters, BatchNorm averages, and optimizer state
    temporary_bytes: int | None = None  # of the compiled step
    # Bytes read and written, and operations, as counted by XLA: the body of a loop counts once.
    moved_bytes: float | None = None
    xla_flops: float | None = None
    compile_seconds: float | None = None
    step_seconds: float | None = None  # on this machine, without a feed


def parameters_by_module(config: ConfigDict, task: Task) -> dict[str, int]:
    """Parameter counts by top-level module; computes no parameters."""
    counts: dict[str, int] = {}
    for module, leaves in weight_shapes(config, task)[0].items():
        top = module.split("/")[0]
        counts[top] = counts.get(top, 0) + sum(math.prod(leaf.shape) for leaf in leaves.values())
    return counts


def step_cost(
    config: ConfigDict, task: Task, compiled: bool = False, timed: bool = False
) -> StepCost:
    """Counts the operations and bytes of a step of a valid config; loads no data.

    `compiled` adds what the compiler reports, `timed` also the time of some steps on random
    examples.
    """
    settings.device_count()
    training, network = config.training, build_network(config, task)
    optimizer, materialize = make_optimizer(training), make_materialize(config.data, task.shape)
    update = make_update(
        network,
        optimizer,
        materialize,
        training.interim_weight,
        gradient_norm=norm_when(norm_steps(config)),
    )

    def arguments() -> tuple[Any, ...]:
        state = init_state(network, optimizer, training.seed, *blank_inputs(task))
        return state, hyper_from_config(config), *stand_in(task, training.batch_size)

    shapes = jax.eval_shape(arguments)
    state_bytes = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes[0]))
    bank_bytes = bank_size(task.shape, config.data.augment)
    cost = StepCost(count_flops(update, *shapes), bank_bytes, state_bytes)
    if not (compiled or timed):
        return cost
    start = time.perf_counter()
    step = jax.jit(update).lower(*shapes).compile()
    cost = cost._replace(compile_seconds=time.perf_counter() - start)
    found, memory = step.cost_analysis() or {}, step.memory_analysis()
    cost = cost._replace(
        temporary_bytes=None if memory is None else int(memory.temp_size_in_bytes),
        moved_bytes=found.get("bytes accessed"),
        xla_flops=found.get("flops"),
    )
    if not timed:
        return cost
    placed = jax.device_put(arguments())
    timer = timeit.Timer(lambda: jax.block_until_ready(step(*placed)))
    # Blocks of at least 0.2 s. The search for their size also serves as a warm-up.
    count, _ = timer.autorange()
    seconds = statistics.median(timer.repeat(TIMED_BLOCKS, count)) / count
    return cost._replace(step_seconds=seconds)


def bank_size(shape: SourceShape, augment: bool) -> int:
    """Bytes of all examples as stored, which excludes the variants of `augment`."""
    bytes_each = (1 if shape.kind == "image" else 4) * math.prod(shape.example_shape)
    return bytes_each * shape.num_exemplars * shape.num_classes // (NUM_VARIANTS if augment else 1)


def stand_in(task: Task, batch_size: int) -> tuple[DeviceBank, SequenceBatch]:
    """A small random bank, and a training batch whose indices refer to it."""
    shape = task.shape
    dtype = {"image": np.uint8, "vector": np.float32, "integer": np.int32}[shape.kind]
    size = (STAND_IN_CLASSES, min(STAND_IN_EXEMPLARS, shape.num_exemplars), *shape.example_shape)
    examples = np.random.default_rng(0).integers(0, 2, size).astype(dtype)
    ids, exemplars, labels = task.training.sample(np.random.default_rng(0), batch_size)
    inside = SequenceBatch(ids % STAND_IN_CLASSES, exemplars % size[1], labels)
    return DeviceBank(examples, np.zeros(STAND_IN_CLASSES, bool)), inside


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of one call with arrays or their shapes, counted on its jaxpr.

    XLA's own cost analysis counts the body of a loop once, and so misses most of a scanned stack of
    layers or of a recurrent model.

    Matrix products and convolutions count two per multiplication, including products with the
    padding of a convolution and excluding those with the zeros of a dilated one; any other
    operation counts one per output number. Loops of unknown length count once, and only the most
    expensive branch of a conditional counts. What no output depends on does not count.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return _of_jaxpr(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _of_jaxpr(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    leaves, kinds = jax.tree.leaves(equation.params), core.ClosedJaxpr | core.Jaxpr
    inner = [_of_jaxpr(getattr(x, "jaxpr", x)) for x in leaves if isinstance(x, kinds)]
    name, parameters = equation.primitive.name, equation.params
    if inner:
        times = parameters["length"] if name == "scan" else 1
        return max(inner) if name == "cond" else times * sum(inner)
    size = sum(math.prod(out.aval.shape) for out in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = parameters["dimension_numbers"].rhs_spec[0]
        products = math.prod(kernel) // kernel[features]
        return 2 * size * products // math.prod(parameters["lhs_dilation"])
    return size
