"""What every single option may be: its type and its range."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import ml_collections

from emergent_icl.config.registry import Registry
from emergent_icl.data.feed import FEEDERS
from emergent_icl.data.sequences.class_space import LABELINGS
from emergent_icl.data.sequences.types import EVALUATION_MODES, NON_BURSTY_TYPES, SEQUENCE_TYPES
from emergent_icl.data.sources.omniglot import SPLITS as OMNIGLOT_SPLITS
from emergent_icl.data.sources.source import DATA_SOURCES, DRAWINGS
from emergent_icl.models.encoders import ENCODERS
from emergent_icl.models.network import SEQUENCE_MODELS
from emergent_icl.models.normalization import PRECISIONS
from emergent_icl.models.tokens import POSITIONS, TOKEN_LAYOUTS
from emergent_icl.training.optimizers import SCHEDULES


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

    allowed = tuple(sorted(names))
    return Rule(allows, "a tuple of different names among " + ", ".join(allowed), allowed)


def integers(at_least: int = 0) -> Rule:
    """A tuple of positive integers, of some length."""
    text = "a tuple of integers >= 1"
    if at_least:
        text += f", at least {at_least} of them"

    def allows(value: Any) -> bool:
        is_long_enough = isinstance(value, tuple) and len(value) >= at_least
        return is_long_enough and all(_is_int(v) and v >= 1 for v in value)

    return Rule(allows, text)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_overrides(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


STRING = Rule(lambda v: isinstance(v, str), "a string")
BOOLEAN = Rule(lambda v: isinstance(v, bool), "True or False")
PROBABILITY = number(0, 1)
# Dropping everything would leave nothing to scale up.
DROPOUT = number(0, 0.99)
OPTIONAL_COUNT = Rule(lambda v: v is None or (_is_int(v) and v >= 1), "an integer >= 1, or unset")
SEED = integer(0, 2**32 - 1)
# Each keeps files and threads of its own open.
MOST_REPLICAS = 256
OVERRIDES = Rule(
    lambda v: (
        isinstance(v, tuple) and len(v) <= MOST_REPLICAS and all(_is_overrides(one) for one in v)
    ),
    f"a tuple of at most {MOST_REPLICAS} dictionaries {{'name': ..., 'option': value}}, a single "
    f"one with a comma behind it",
)
# What is made up has no other end.
MOST_CLASSES = 1_000_000


# Options that come with extensions (docs/extending.md): path in the config -> rule. A config
# need not have them.
EXTRA_OPTIONS: Registry[Rule] = Registry("option")


def rules() -> dict[str, Rule]:
    """Option -> rule, for every option of experiments/configs/base.py."""
    return {
        "name": STRING,
        **_data_rules(),
        **_sequence_rules(),
        **_source_rules(),
        **_model_rules(),
        **_training_rules(),
        **_evaluation_rules(),
    }


def _data_rules() -> dict[str, Rule]:
    return {
        "data.source": one_of(DATA_SOURCES),
        "data.data_dir": STRING,
        "data.cache_dir": STRING,
        "data.image_size": integer(8, 105),
        "data.drawings": one_of(DRAWINGS),
        "data.augment": BOOLEAN,
        "data.random_rare_images": BOOLEAN,
        "data.inverted": BOOLEAN,
        "data.noise_scale": number(0, 100),
        "data.feeder": one_of(("auto", *FEEDERS)),
        "data.split.seed": SEED,
        "data.split.num_rare": integer(0),
        "data.split.num_common": integer(0),
        "data.split.num_holdout": integer(0),
    }


def _sequence_rules() -> dict[str, Rule]:
    return {
        "data.sequences.type": one_of(SEQUENCE_TYPES),
        # Beyond, sampling would take longer than training.
        "data.sequences.seq_len": integer(2, 257),
        "data.sequences.shots": integer(1),
        "data.sequences.ways": integer(1),
        "data.sequences.p_bursty": PROBABILITY,
        "data.sequences.p_bursty_zipfian": PROBABILITY,
        "data.sequences.p_bursty_common": PROBABILITY,
        "data.sequences.non_bursty": one_of(NON_BURSTY_TYPES),
        "data.sequences.grouped": BOOLEAN,
        "data.sequences.distinct_ways": BOOLEAN,
        "data.sequences.p_fewshot": PROBABILITY,
        # Beyond 10 every class but the first is drawn less than once in a thousand times.
        "data.sequences.zipf_exponent": number(0, 10),
        "data.sequences.zipf_within_roles": BOOLEAN,
        "data.sequences.labeling": one_of(LABELINGS),
        "data.sequences.num_shared_labels": integer(1),
        "data.sequences.label_multiplicity": integer(1, 10_000),
    }


def _source_rules() -> dict[str, Rule]:
    return {
        "data.omniglot.split": one_of(OMNIGLOT_SPLITS),
        "data.glyphs.num_classes": integer(1, MOST_CLASSES),
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
        "data.gaussian.num_classes": integer(1, MOST_CLASSES),
        "data.gaussian.dimension": integer(1),
        "data.gaussian.seed": SEED,
        "data.features.path": STRING,
        "data.features.array": STRING,
        "data.symbolic.num_classes": integer(1, MOST_CLASSES),
    }


def _model_rules() -> dict[str, Rule]:
    return {
        "model.encoder": one_of(ENCODERS),
        "model.embedding_size": integer(2),
        "model.tokens": one_of(TOKEN_LAYOUTS),
        "model.positions": one_of(POSITIONS),
        "model.num_positions": OPTIONAL_COUNT,
        "model.sequence_model": one_of(SEQUENCE_MODELS),
        "model.num_layers": integer(1),
        "model.num_heads": integer(1),
        "model.mlp_ratio": integer(1),
        "model.attention_only": BOOLEAN,
        "model.scan_layers": BOOLEAN,
        "model.rnn_size": integer(1),
        "model.head_hidden_sizes": integers(),
        "model.example_dropout": DROPOUT,
        "model.positional_dropout": DROPOUT,
        "model.dropout": DROPOUT,
        "model.precision": one_of(PRECISIONS),
        "model.num_labels": OPTIONAL_COUNT,
        "model.num_symbols": integer(1),
        "model.resnet.channels": integers(at_least=1),
        "model.resnet.blocks_per_group": integers(at_least=1),
        "model.resnet.flatten_superpixels": BOOLEAN,
        "model.mlp.hidden_sizes": integers(),
    }


def _training_rules() -> dict[str, Rule]:
    return {
        "training.num_steps": integer(1),
        "training.batch_size": integer(1),
        "training.seed": SEED,
        "training.steps_per_call": OPTIONAL_COUNT,
        "training.replicas": integer(1, MOST_REPLICAS),
        "training.replica_overrides": OVERRIDES,
        "training.spread_replicas": BOOLEAN,
        "training.deterministic": BOOLEAN,
        "training.log_every": integer(1),
        "training.interim_weight": PROBABILITY,
        "training.optimizer.name": STRING,
        "training.optimizer.options": Rule(
            lambda v: isinstance(v, ml_collections.ConfigDict), "keyword arguments"
        ),
        "training.optimizer.learning_rate": number(0, above=True),
        "training.optimizer.schedule": one_of(SCHEDULES),
        "training.optimizer.warmup_steps": integer(0),
        "training.optimizer.weight_decay": number(0),
        "training.optimizer.max_grad_norm": number(0),
    }


def _evaluation_rules() -> dict[str, Rule]:
    return {
        "evaluation.modes": some_of(EVALUATION_MODES),
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
