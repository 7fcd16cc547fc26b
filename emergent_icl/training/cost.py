"""What a config costs before it is run (parameters, operations, memory, time), and warnings."""

import math
import os
import statistics
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr
from ml_collections import ConfigDict

from emergent_icl.config.registry import DATA_SOURCES, ENCODERS, SCHEDULES
from emergent_icl.data.bank import NUM_VARIANTS, DeviceBank, SourceShape
from emergent_icl.data.materialize import is_stochastic, make_materialize
from emergent_icl.data.sequences.burstiness import draw_sample
from emergent_icl.data.sequences.classes import SequenceBatch, zipf_weights
from emergent_icl.data.task import Task
from emergent_icl.evaluation.metrics import ICL, IWL, Z_95
from emergent_icl.models.tokens import num_tokens
from emergent_icl.training import settings
from emergent_icl.training.build import blank_inputs, build_network, weight_shapes
from emergent_icl.training.optimizers import hyper_from_config, make_optimizer, scales_arrays
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


# -------------------------------------------------------------------------- operations


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


# ---------------------------------------------------------------------------- warnings

# Thresholds of the warnings.
FEW_CLASSES = 20
WIDE_INTERVAL = 0.03
SELDOM_SHOWN = 10
MANY_SEQUENCES = 20_000
MOST_OF_ALL = 0.5


def warnings(config: ConfigDict, task: Task) -> list[str]:
    """What may be wrong with the results of a valid config, one sentence each."""
    every = (_data_warnings, _mode_warnings, _run_warnings, _optimizer_warnings)
    return [one for warnings_of in every for one in warnings_of(config, task)]


def _data_warnings(config: ConfigDict, task: Task) -> Iterator[str]:
    data, sequences, space = config.data, config.data.sequences, task.space
    # Variants of one character are not independent draws.
    held_out, groups = space.split.num_holdout, space.split.num_holdout_groups
    if ICL[0] in task.evaluation and groups < FEW_CLASSES:
        named = f", of {groups} groups ('{data.split.groups}')"
        grouping = named if data.split.groups else f", variants of {groups} characters"
        grouping *= groups < held_out
        yield (
            f"{held_out} holdout classes{grouping}: ICL depends on which classes they are, and "
            f"intervals cover only the draw of sequences"
        )
    if "p_bursty" in task.training.reads and sequences.p_bursty == 0:
        yield "p_bursty = 0: few contexts contain the query's class, so nothing rewards ICL"
    if task.training.follows_zipf:
        weights = zipf_weights(space.split.num_train, sequences.zipf_exponent)
        if weights[-1] > MOST_OF_ALL:
            yield f"the most frequent class is {weights[-1]:.0%} of all examples drawn"
        shown = config.training.num_steps * config.training.batch_size * task.training.seq_len
        if shown * weights[0] < SELDOM_SHOWN:
            yield (
                f"the rarest class is expected {shown * weights[0]:.2g} times in the whole run: "
                f"its label can hardly be learned in weights"
            )
    if space.num_exemplars == 1 and not is_stochastic(data) and task.shape.kind != "integer":
        yield "one exemplar per class and no noise: a query is identical to its class's examples"
    if task.shape.kind == "integer" and ICL[0] in task.evaluation:
        yield "holdout integers have embeddings that were never trained: ICL is measured on noise"
    is_seen = data.inverted or ENCODERS.about(config.model.encoder).is_normalized
    if DATA_SOURCES[data.source].has_thin_strokes and not is_seen:
        yield (
            f"data.inverted = False: '{config.model.encoder}' hardly sees Omniglot's thin strokes "
            f"on a background of ones (28 x 28, p_bursty 0, 9,000 steps: IWL 0.15 instead of 0.86)"
        )


def _mode_warnings(config: ConfigDict, task: Task) -> Iterator[str]:
    """Reasons why an accuracy may be low whatever a model can learn."""
    if config.training.interim_weight == 1:
        yield "training.interim_weight = 1: the query, where accuracy is measured, is not trained"
    for mode, kind in task.evaluation.items():
        labels = np.sort(kind.valid_labels)
        is_new = kind.labeling == "unfixed" or kind.role == "holdout"
        if kind.is_fewshot and is_new and (unseen := _unseen(task, labels)):
            yield (
                f"{mode} requires labels {_range(labels)}, of which training does not show "
                f"{_range(unseen)} in {MANY_SEQUENCES:,} sequences: a low accuracy may be due to "
                f"labels that were never learned, not to a lack of in-context learning"
            )
    # Their queries cannot be answered from the context.
    others = {mode: kind.role for mode, kind in task.evaluation.items() if not kind.shots}
    if others and config.data.sequences.labeling == "unfixed":
        yield f"labeling 'unfixed': no class keeps a label, so {', '.join(others)} can show nothing"
    fresh = [mode for mode, role in others.items() if role != "common"]
    if fresh and config.data.random_rare_images:
        yield (
            f"random_rare_images = True: rare queries of {', '.join(fresh)} are images that were "
            f"never seen, which nothing can answer"
        )


def _unseen(task: Task, labels: np.ndarray) -> list[int]:
    """The given labels that do not occur in MANY_SEQUENCES training sequences."""
    seen = draw_sample(task.training.sample, 0, "describe", MANY_SEQUENCES).labels
    return np.setdiff1d(labels, seen).tolist()


def _range(labels: Sequence[int] | np.ndarray) -> str:
    if len(labels) < 3:
        return " and ".join(map(str, labels))
    is_whole = labels[-1] - labels[0] == len(labels) - 1
    return f"{len(labels)} of " * (not is_whole) + f"{labels[0]} to {labels[-1]}"


def _run_warnings(config: ConfigDict, task: Task) -> Iterator[str]:
    evaluation, training = config.evaluation, config.training
    for name, (mode, _) in (("ICL", ICL), ("IWL", IWL)):
        if mode not in evaluation.modes:
            yield f"evaluation.modes lacks {mode}: there will be no {name} curve"
    half = Z_95 * math.sqrt(0.25 / evaluation.num_sequences)
    if half > WIDE_INTERVAL:
        yield (
            f"evaluation.num_sequences = {evaluation.num_sequences}: the 95% interval of an "
            f"accuracy near 0.5 is +- {half:.3f}"
        )
    layout = config.model.tokens
    trained = num_tokens(task.training.seq_len, layout)
    for mode, kind in task.evaluation.items():
        if (length := num_tokens(kind.seq_len, layout)) != trained:
            where = ": the last positions were never trained" if length > trained else ""
            yield f"{mode} has {length} tokens, training has {trained}{where}"
    for name, section in (("evaluation", evaluation), ("checkpoints", config.checkpoints)):
        if late := [at for at in section.at if isinstance(at, int) and at > training.num_steps]:
            yield f"{name}.at: the run ends at step {training.num_steps}, before {late}"
    steps, about = training.steps_per_call or 1, ENCODERS.about(config.model.encoder)
    if steps > 1 and about.has_convolutions and jax.default_backend() == "cpu":
        yield (
            f"training.steps_per_call = {steps} on CPU: convolutions inside one call run on a "
            f"single thread"
        )
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = bank_size(task.shape, config.data.augment)
    # On CPU, the memory of the device is that of the host.
    if size * 2 > available / 2:
        yield (
            f"the examples take {size / 2**30:.1f} GiB on the host and again on the device; this "
            f"machine has {available / 2**30:.0f} GiB"
        )


def _optimizer_warnings(config: ConfigDict, task: Task) -> Iterator[str]:
    training, optimizer = config.training, config.training.optimizer
    if optimizer.warmup_steps > training.num_steps:
        yield (
            f"training.optimizer.warmup_steps = {optimizer.warmup_steps} of {training.num_steps} "
            f"steps: the run ends before its peak learning rate"
        )
    if SCHEDULES.about(optimizer.schedule).needs_warmup and optimizer.warmup_steps == 0:
        yield (
            f"training.optimizer.warmup_steps = 0: schedule '{optimizer.schedule}' decays from the "
            f"first step on, to a tenth of the learning rate at step 100"
        )
    if optimizer.options.get("weight_decay_rate"):
        yield (
            f"training.optimizer.options.weight_decay_rate: '{optimizer.name}' also decays biases "
            f"and normalization; training.optimizer.weight_decay does not"
        )
    if scales_arrays(training):
        yield (
            f"training.optimizer.name = '{optimizer.name}' scales each array as a whole: the "
            f"layers of a transformer, stacked in one array, share one scale"
        )
