"""What may be wrong with the results of a valid config."""

import math
import os
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.registry import DATA_SOURCES, ENCODERS, SCHEDULES
from emergent_icl.data.materialize import is_stochastic
from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.sequences.samples import draw_sample
from emergent_icl.data.task import Task
from emergent_icl.evaluation.metrics import ICL, IWL, Z_95
from emergent_icl.models.tokens import num_tokens
from emergent_icl.training.cost import bank_size
from emergent_icl.training.optimizers import scales_arrays

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
