"""Checks a whole config before anything is loaded or compiled: all problems in one error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import ml_collections

from emergent_icl import plan as plans
from emergent_icl.datasets.bank import DATA_SOURCES, SourceShape
from emergent_icl.datasets.class_space import LABELINGS
from emergent_icl.datasets.pipeline import FEEDERS
from emergent_icl.datasets.sequences import NON_BURSTY_TYPES, SEQUENCE_TYPES
from emergent_icl.modules.embedding import TOKEN_LAYOUTS, token_width
from emergent_icl.modules.encoders import ENCODERS
from emergent_icl.modules.network import SEQUENCE_MODELS
from emergent_icl.registry import nearest_name
from emergent_icl.training.optimizers import SCHEDULES, check_optimizer
from emergent_icl.workdir import flatten


class ConfigError(ValueError):
    """A config that cannot be run; the message lists every problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"The config has {count}:", *problems]))


class Rule(NamedTuple):
    """What a single option may be.

    Attributes:
      allows: value -> bool.
      text: the allowed values in words, after "must be".
      names: the allowed values, where they are names.
    """

    allows: Callable[[Any], bool]
    text: str
    names: tuple[str, ...] = ()


def integer(low: int, high: int | None = None) -> Rule:
    """A whole number in [low, high]."""
    text = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    return Rule(lambda v: _is_int(v) and v >= low and (high is None or v <= high), text)


def number(low: float, high: float | None = None, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or (low, high] if `above`."""
    bound = f"> {low:g}" if above else f">= {low:g}"
    text = f"a number {bound}" if high is None else f"a number {bound} and <= {high:g}"

    def allows(value: Any) -> bool:
        if not (_is_int(value) or isinstance(value, float)) or value != value:
            return False
        if value in (float("inf"), float("-inf")):
            return False
        return (value > low if above else value >= low) and (high is None or value <= high)

    return Rule(allows, text)


def one_of(names: Collection[str]) -> Rule:
    """One of some names."""
    names = tuple(sorted(names))
    return Rule(lambda v: isinstance(v, str) and v in names, "one of " + ", ".join(names), names)


def some_of(names: Collection[str]) -> Rule:
    """A tuple of at least one of some names, each once."""

    def allows(value: Any) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) > 0
            and all(isinstance(name, str) and name in names for name in value)
            and len(set(value)) == len(value)
        )

    return Rule(allows, "a tuple of different names among " + ", ".join(sorted(names)))


def integers(length: int | None = None) -> Rule:
    """A tuple of positive integers."""
    text = "a tuple of integers >= 1" if length is None else f"a tuple of {length} integers >= 1"

    def allows(value: Any) -> bool:
        right_length = isinstance(value, tuple) and length in (None, len(value))
        return right_length and all(_is_int(v) and v >= 1 for v in value)

    return Rule(allows, text)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


OPTIMIZER_OPTIONS = "training.optimizer.options"
STRING = Rule(lambda v: isinstance(v, str), "a string")
BOOLEAN = Rule(lambda v: isinstance(v, bool), "True or False")
PROBABILITY = number(0, 1)
SEED = integer(0, 2**32 - 1)


def rules() -> dict[str, Rule]:
    """Option -> rule, for every option of experiments/configs/base.py."""
    return {
        "name": STRING,
        "data.source": one_of(DATA_SOURCES),
        "data.data_dir": STRING,
        "data.cache_dir": STRING,
        "data.image_size": integer(8, 105),
        "data.drawings": one_of(("all", "single")),
        "data.inverted": BOOLEAN,
        "data.noise_scale": number(0, 100),
        "data.feeder": one_of(("auto", *FEEDERS)),
        "data.split.seed": SEED,
        "data.split.num_rare": integer(0),
        "data.split.num_common": integer(0),
        "data.split.num_holdout": integer(0),
        # Holdout classes are never trained on.
        "data.sequences.type": one_of(set(SEQUENCE_TYPES) - {"fewshot_holdout"}),
        "data.sequences.seq_len": integer(2, 1025),
        "data.sequences.shots": integer(1),
        "data.sequences.ways": integer(1),
        "data.sequences.p_bursty": PROBABILITY,
        "data.sequences.p_bursty_zipfian": PROBABILITY,
        "data.sequences.p_bursty_common": PROBABILITY,
        "data.sequences.non_bursty": one_of(NON_BURSTY_TYPES),
        "data.sequences.grouped": BOOLEAN,
        "data.sequences.distinct_ways": BOOLEAN,
        # Beyond 10 every class but the first is drawn less than once in a thousand times.
        "data.sequences.zipf_exponent": number(0, 10),
        "data.sequences.zipf_within_roles": BOOLEAN,
        "data.sequences.labeling": one_of(LABELINGS),
        "data.sequences.label_multiplicity": integer(1),
        "data.glyphs.num_classes": integer(1),
        "data.glyphs.num_exemplars": integer(1),
        "data.glyphs.seed": SEED,
        "data.glyphs.min_strokes": integer(1),
        "data.glyphs.max_strokes": integer(1, 16),
        # Many longer ones hardly ever fit into the box.
        "data.glyphs.min_stroke_length": number(0, 0.5),
        "data.glyphs.p_connected": PROBABILITY,
        "data.glyphs.min_pen_width": number(0, 0.5, above=True),
        "data.glyphs.max_pen_width": number(0, 0.5, above=True),
        "data.glyphs.rotation": number(0, 10),
        "data.glyphs.scale": number(0, 1),
        "data.glyphs.shear": number(0, 1),
        "data.glyphs.shift": number(0, 1),
        "data.glyphs.control_jitter": number(0, 1),
        "data.symbolic.num_classes": integer(1),
        "model.encoder": one_of(ENCODERS),
        "model.embedding_size": integer(2),
        "model.tokens": one_of(TOKEN_LAYOUTS),
        "model.sequence_model": one_of(SEQUENCE_MODELS),
        "model.num_layers": integer(1),
        "model.num_heads": integer(1),
        "model.mlp_ratio": integer(1),
        "model.scan_layers": BOOLEAN,
        "model.rnn_size": integer(1),
        "model.num_labels": Rule(
            lambda v: v is None or (_is_int(v) and v >= 1), "an integer >= 1, or unset"
        ),
        "model.num_symbols": integer(1),
        "model.resnet.channels": integers(4),
        "model.resnet.blocks_per_group": integers(4),
        "model.mlp.hidden_sizes": integers(),
        "training.num_steps": integer(1),
        "training.batch_size": integer(1),
        "training.seed": SEED,
        "training.steps_per_call": integer(1),
        "training.log_every": integer(1),
        "training.optimizer.name": STRING,
        "training.optimizer.options": Rule(
            lambda v: isinstance(v, ml_collections.ConfigDict), "keyword arguments"
        ),
        "training.optimizer.learning_rate": number(0, above=True),
        "training.optimizer.schedule": one_of(SCHEDULES),
        "training.optimizer.warmup_steps": integer(0),
        "training.optimizer.weight_decay": number(0),
        "training.optimizer.max_grad_norm": number(0),
        "evaluation.modes": some_of(SEQUENCE_TYPES),
        "evaluation.every": integer(1),
        # An interval needs two.
        "evaluation.num_sequences": integer(2),
        "evaluation.batch_size": integer(1),
        "evaluation.seed": SEED,
        "evaluation.shots": integer(1),
        "evaluation.ways": integer(2),
        "evaluation.distinct_ways": BOOLEAN,
        "evaluation.grouped": BOOLEAN,
        "evaluation.fewshot_labeling": one_of(LABELINGS),
        "checkpoints.every": integer(1),
        "checkpoints.keep": integer(1),
    }


def validate(config: ml_collections.ConfigDict, num_devices: int = 1) -> None:
    """Checks types, ranges, and what the options mean together.

    Args:
      config: the whole config.
      num_devices: over which the batch is spread, on all hosts.

    Raises:
      ConfigError: names every problem with its field, value and what is allowed.
    """
    problems = list(_single_problems(config))
    # Relations only make sense between values that are possible by themselves.
    if not problems:
        problems = [
            *_data_problems(config),
            *_model_problems(config),
            *_training_problems(config, num_devices),
        ]
    if problems:
        raise ConfigError(problems)


def _single_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    for path, rule in rules().items():
        value: Any = config
        for part in path.split("."):
            if part not in value:
                yield f"{path} is missing"
                break
            value = value[part]
        else:
            if not rule.allows(value):
                yield f"{path} = {value!r} must be {rule.text}{nearest_name(value, rule.names)}"
    # What an optimizer takes is its own affair; make_optimizer checks it.
    options = (path for path in flatten(config.to_dict()) if not path.startswith(OPTIMIZER_OPTIONS))
    for path in options:
        if path not in rules():
            yield f"{path} is not an option{nearest_name(path, rules())}"


def _data_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    data, sequences, evaluation = config.data, config.data.sequences, config.evaluation
    knobs = data.glyphs
    if knobs.min_strokes > knobs.max_strokes:
        yield (
            f"data.glyphs.min_strokes = {knobs.min_strokes} must be at most "
            f"max_strokes = {knobs.max_strokes}"
        )
    if knobs.min_pen_width > knobs.max_pen_width:
        yield (
            f"data.glyphs.min_pen_width = {knobs.min_pen_width} must be at most "
            f"max_pen_width = {knobs.max_pen_width}"
        )
    if sequences.p_bursty_zipfian + sequences.p_bursty_common > 1 + 1e-9:
        yield (
            f"data.sequences.p_bursty_zipfian + p_bursty_common = "
            f"{sequences.p_bursty_zipfian} + {sequences.p_bursty_common} must be at most 1"
        )
    if sequences.label_multiplicity > 1 and sequences.labeling != "ordered":
        yield (
            f"data.sequences.label_multiplicity = {sequences.label_multiplicity} needs "
            f"data.sequences.labeling = 'ordered', not '{sequences.labeling}'"
        )
    shape = plans.source_shape(data)
    if data.noise_scale > 0 and shape.kind != "image":
        yield (
            f"data.noise_scale = {data.noise_scale} needs images, not data.source = '{data.source}'"
        )
    yield from _exemplar_problems(config, shape)

    try:
        space = plans.class_space(data, shape)
    except ValueError as error:
        yield str(error)
        # As if there were enough classes, so that the rest is checked too.
        split = data.split
        enough = split.num_rare + split.num_common + split.num_holdout
        space = plans.class_space(data, shape._replace(num_classes=enough))
    kinds = []
    try:
        kinds.append(plans.training_type(config, space))
        if kinds[0].seq_len != sequences.seq_len:
            yield (
                f"data.sequences.seq_len = {sequences.seq_len} must be {kinds[0].seq_len} for "
                f"type '{sequences.type}' with shots = {sequences.shots}, ways = {sequences.ways}"
            )
    except ValueError as error:
        yield f"data.sequences (type '{sequences.type}'): {error}"
    for mode in evaluation.modes:
        try:
            kinds.append(plans.evaluation_type(config, space, mode))
        except ValueError as error:
            yield f"evaluation.modes: '{mode}': {error}"
    needed = max((kind.num_labels for kind in kinds), default=0)
    capacity = plans.label_capacity(config, space)
    if capacity < needed:
        yield f"model.num_labels = {capacity} must be at least {needed} for these data"


def _exemplar_problems(config: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    # One exemplar is a condition of its own (identical drawings); a few would be
    # reused in some sequences and not in others.
    shots = {"data.sequences": config.data.sequences.shots, "evaluation": config.evaluation.shots}
    for section, count in shots.items():
        if 1 < shape.num_exemplars < count + 1:
            yield (
                f"{section}.shots = {count} needs {count + 1} exemplars of a class (query "
                f"included), but the data has {shape.num_exemplars}"
            )


def _model_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    model = config.model
    source = config.data.source
    shape = plans.source_shape(config.data)
    is_image, is_integer = shape.kind == "image", shape.kind == "integer"
    if model.encoder == "embedding" and not is_integer:
        yield f"model.encoder = 'embedding' needs integers, not data.source = '{source}'"
    if model.encoder == "resnet" and not is_image:
        yield f"model.encoder = 'resnet' needs images, not data.source = '{source}'"
    if model.encoder in ("mlp", "linear") and is_integer:
        yield (
            f"model.encoder = '{model.encoder}' would read the integers of data.source = "
            f"'{source}' as quantities; use 'embedding'"
        )
    if model.encoder == "embedding" and shape.num_classes > model.num_symbols:
        yield f"model.num_symbols = {model.num_symbols} must be at least {shape.num_classes}"
    if model.encoder == "resnet" and model.resnet.channels[-1] != model.embedding_size:
        yield (
            f"model.resnet.channels = {model.resnet.channels} must end with "
            f"model.embedding_size = {model.embedding_size}"
        )
    if model.encoder == "resnet" and any(channels % 4 for channels in model.resnet.channels):
        yield f"model.resnet.channels = {model.resnet.channels} must be multiples of 4"
    width = token_width(model.embedding_size, model.tokens)
    if width % 2:
        yield f"model.embedding_size = {model.embedding_size} must be even (sines and cosines)"
    if model.sequence_model == "transformer" and width % model.num_heads:
        yield f"model.num_heads = {model.num_heads} must divide the token width {width}"


def _training_problems(config: ml_collections.ConfigDict, num_devices: int) -> Iterator[str]:
    training = config.training
    intervals = {
        "training.num_steps": training.num_steps,
        "training.log_every": training.log_every,
        "evaluation.every": config.evaluation.every,
        "checkpoints.every": config.checkpoints.every,
    }
    for name, value in intervals.items():
        if value % training.steps_per_call:
            yield (
                f"{name} = {value} must be a multiple of "
                f"training.steps_per_call = {training.steps_per_call}"
            )
    if training.batch_size % num_devices:
        yield (
            f"training.batch_size = {training.batch_size} must be a multiple of the "
            f"{num_devices} devices"
        )
    try:
        check_optimizer(training)
    except ValueError as error:
        yield f"training.optimizer.name = '{training.optimizer.name}': {error}"
