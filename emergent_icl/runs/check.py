"""Checks a whole config before anything is loaded or compiled: all problems in one error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_collections

from emergent_icl.config.configs import alone, flatten, is_plain, named_overrides
from emergent_icl.config.registry import nearest_name, nearest_options
from emergent_icl.config.rules import EXTRA_OPTIONS, ConfigError, rules
from emergent_icl.data import task as tasks
from emergent_icl.data.bank import SourceShape
from emergent_icl.models.resnet import BOTTLENECK_RATIO, num_superpixels
from emergent_icl.models.tokens import num_tokens, token_width
from emergent_icl.training import replicas
from emergent_icl.training.optimizers import check_optimizer

OPTIMIZER_OPTIONS = "training.optimizer.options"
# A label table of 64 numbers each would take 4 GiB.
MOST_LABELS = 2**24
SECTIONS = ("data", "model", "training", "evaluation", "checkpoints")


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
    sound = set(SECTIONS) - {problem.split(".")[0] for problem in problems}
    problems += _relation_problems(config, num_devices, sound)
    if not problems:
        problems += _replica_problems(config)
    if problems:
        raise ConfigError(problems)


_MISSING = object()
# Seeds and counts are numbers of 32 bits, at the most.
LARGEST = 2**32 - 1


def _single_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    known = rules() | dict(EXTRA_OPTIONS)
    # An extension's options are only needed where its data are used.
    source = f"data.{_value(config, 'data.source')}."
    for path, rule in known.items():
        value = _value(config, path)
        if value is _MISSING:
            if path not in EXTRA_OPTIONS or path.startswith(source):
                yield f"{path} is missing"
        elif isinstance(value, int) and abs(value) > LARGEST:
            yield f"{path} = {value!r} must be {rule.text}, and at most {LARGEST}"
        elif not rule.allows(value):
            yield f"{path} = {value!r} must be {rule.text}{_hint(value, rule.names)}"
    # What an optimizer takes is its own affair; make_optimizer checks it.
    options = (path for path in flatten(config.to_dict()) if not path.startswith(OPTIMIZER_OPTIONS))
    for path in options:
        if path not in known:
            yield f"{path} is not an option{nearest_options(path, known)}"


def _value(config: ml_collections.ConfigDict, path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        if not isinstance(value, ml_collections.ConfigDict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _hint(value: Any, names: tuple[str, ...]) -> str:
    """The nearest allowed name for each one that is not allowed, if there is any."""
    wrong = [
        name for name in (value if isinstance(value, tuple) else (value,)) if name not in names
    ]
    return "".join(nearest_name(name, names) for name in wrong)


def _relation_problems(
    config: ml_collections.ConfigDict, num_devices: int, sound: set[str]
) -> Iterator[str]:
    """Contradictions between options of sections that have no problem by themselves."""
    if sound >= {"training", "evaluation", "checkpoints", "model"}:
        yield from _training_problems(config, num_devices)
    if "data" not in sound:
        return
    yield from _data_problems(config)
    try:
        shape = tasks.source_shape(config.data)
    except (ValueError, OSError) as error:
        yield str(error)
        return
    if sound >= {"evaluation", "model"}:
        yield from _source_problems(config, shape)
        yield from _sequence_problems(config, shape)
    if "model" in sound:
        yield from _model_problems(config, shape)


def _replica_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    """Of a config that is valid but for its replicas: each alone, then all together."""
    problems = list(replicas.override_problems(config))
    if problems or is_plain(config):
        yield from problems
        return
    for name, overrides in named_overrides(config):
        try:
            validate(alone(config, overrides))
        except (ConfigError, KeyError) as error:
            each = error.problems if isinstance(error, ConfigError) else [error.args[0]]
            problems += [f"replica '{name}': {problem}" for problem in each]
    yield from problems or replicas.together_problems(config, replicas.make_replicas(config))


def _data_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    data, sequences = config.data, config.data.sequences
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


def _source_problems(config: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    data = config.data
    needs_images = {"random_rare_images": data.random_rare_images, "inverted": data.inverted}
    for name, is_on in needs_images.items():
        if is_on and shape.kind != "image":
            yield f"data.{name} needs images, not data.source = '{data.source}'"
    if data.noise_scale > 0 and shape.kind == "integer":
        yield (
            f"data.noise_scale = {data.noise_scale} needs images or vectors, not "
            f"data.source = '{data.source}'"
        )
    if data.random_rare_images and data.split.num_rare == 0:
        yield "data.random_rare_images needs rare classes, but data.split.num_rare is 0"
    # One exemplar is a condition of its own (identical drawings); a few would be
    # reused in some sequences and not in others.
    shots = {}
    if not data.sequences.type.startswith("no_support"):
        shots["data.sequences"] = data.sequences.shots
    if any(_is_fewshot(mode) for mode in config.evaluation.modes):
        shots["evaluation"] = config.evaluation.shots
    for section, count in shots.items():
        if 1 < shape.num_exemplars < count + 1:
            yield (
                f"{section}.shots = {count} needs {count + 1} exemplars of a class (query "
                f"included), but the data has {shape.num_exemplars}"
            )


def _is_fewshot(mode: str) -> bool:
    return mode.startswith("fewshot") or mode in ("flip", "mixed")


def _sequence_problems(config: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    data, sequences, evaluation = config.data, config.data.sequences, config.evaluation
    try:
        space = tasks.class_space(data, shape)
    except ValueError as error:
        yield f"{error} (data.source = '{data.source}')"
        # As if there were enough classes, so that the rest is checked too.
        split = data.split
        enough = split.num_rare + split.num_common + split.num_holdout
        many = shape._replace(num_classes=2 * max(enough, 1), group_size=1)
        space = tasks.class_space(data, many)
    num_labels = space.num_labels(tasks.fixed_labeling(config))
    if num_labels > MOST_LABELS:
        yield (
            f"data.sequences.label_multiplicity = {sequences.label_multiplicity} gives "
            f"{num_labels:,} labels; there must be at most {MOST_LABELS:,}"
        )
        return
    kinds = []
    try:
        kinds.append(tasks.training_type(config, space))
        if kinds[0].seq_len != sequences.seq_len:
            yield (
                f"data.sequences.seq_len = {sequences.seq_len} must be {kinds[0].seq_len} for "
                f"type '{sequences.type}' with shots = {sequences.shots}, ways = {sequences.ways}"
            )
    except ValueError as error:
        yield f"data.sequences (type '{sequences.type}'): {error}"
    for mode in evaluation.modes:
        try:
            kinds.append(tasks.evaluation_type(config, space, mode))
        except ValueError as error:
            yield f"evaluation.modes: '{mode}': {error}"
    if not kinds:
        return
    needed = max(kind.num_labels for kind in kinds)
    capacity = tasks.label_capacity(config, space)
    if capacity < needed:
        yield f"model.num_labels = {capacity} must be at least {needed} for these data"
    longest = max(num_tokens(kind.seq_len, config.model.tokens) for kind in kinds)
    positions = tasks.position_capacity(config, kinds)
    if config.model.positions == "learned" and positions < longest:
        yield (
            f"model.num_positions = {positions} must be at least {longest}, the tokens of the "
            f"longest sequence: learned positions reach no further"
        )


def _model_problems(config: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    model, source = config.model, config.data.source
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
    if model.encoder == "resnet" and is_image:
        yield from _resnet_problems(model, shape)
    width = token_width(model.embedding_size, model.tokens)
    if width % 2 and model.positions == "sinusoidal":
        yield f"model.embedding_size = {model.embedding_size} must be even (sines and cosines)"
    if model.positional_dropout > 0 and model.positions in ("rotary", "none"):
        yield (
            f"model.positional_dropout = {model.positional_dropout} needs positions that are "
            f"added to tokens, not model.positions = '{model.positions}'"
        )
    if model.sequence_model == "transformer":
        if width % model.num_heads:
            yield f"model.num_heads = {model.num_heads} must divide the token width {width}"
        elif model.positions == "rotary" and width // model.num_heads % 2:
            yield (
                f"model.positions = 'rotary' needs heads of even size, but model.num_heads = "
                f"{model.num_heads} of token width {width} have size {width // model.num_heads}"
            )
    elif model.positions == "rotary" and model.sequence_model in ("lstm", "gru", "rnn"):
        yield (
            f"model.positions = 'rotary' needs attention, not "
            f"model.sequence_model = '{model.sequence_model}'"
        )


def _resnet_problems(model: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    channels, blocks = model.resnet.channels, model.resnet.blocks_per_group
    if len(channels) != len(blocks):
        yield (
            f"model.resnet.channels = {channels} must have as many groups as "
            f"model.resnet.blocks_per_group = {blocks}"
        )
    if channels[-1] != model.embedding_size:
        yield (
            f"model.resnet.channels = {channels} must end with "
            f"model.embedding_size = {model.embedding_size}"
        )
    if any(width % BOTTLENECK_RATIO for width in channels):
        yield f"model.resnet.channels = {channels} must be multiples of {BOTTLENECK_RATIO}"
    if model.resnet.flatten_superpixels:
        count = num_superpixels(shape.example_shape[0], len(channels))
        if channels[-1] % (BOTTLENECK_RATIO * count):
            yield (
                f"model.resnet.flatten_superpixels needs model.embedding_size = "
                f"{model.embedding_size} to be a multiple of {BOTTLENECK_RATIO} x {count} "
                f"superpixels"
            )


def _training_problems(config: ml_collections.ConfigDict, num_devices: int) -> Iterator[str]:
    training = config.training
    intervals = {
        "training.num_steps": training.num_steps,
        "training.log_every": training.log_every,
        "evaluation.every": config.evaluation.every,
        "checkpoints.every": config.checkpoints.every,
    }
    for name, value in intervals.items():
        if training.steps_per_call is not None and value % training.steps_per_call:
            yield (
                f"{name} = {value} must be a multiple of "
                f"training.steps_per_call = {training.steps_per_call}"
            )
    if training.spread_replicas:
        if len(named_overrides(config)) % num_devices:
            yield (
                f"training.spread_replicas: {len(named_overrides(config))} replicas must "
                f"be a multiple of the {num_devices} devices"
            )
    elif training.batch_size % num_devices:
        yield (
            f"training.batch_size = {training.batch_size} must be a multiple of the "
            f"{num_devices} devices"
        )
    if training.interim_weight > 0 and config.model.tokens != "interleaved":
        yield (
            f"training.interim_weight = {training.interim_weight} needs model.tokens = "
            f"'interleaved': a concatenated token shows the label that it would predict"
        )
    try:
        check_optimizer(training)
    except ValueError as error:
        yield f"training.optimizer.name = '{training.optimizer.name}': {error}"
