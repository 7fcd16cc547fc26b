"""One line of text about sequences or data: the options that matter for them, by their names."""

from __future__ import annotations

from typing import Any

import ml_collections

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.sequences.types import SequenceType


def describe_sequences(
    config: ml_collections.ConfigDict, kind: SequenceType, is_training: bool
) -> str:
    """The options that a sequence type depends on, where they matter.

    Args:
      config: the whole config.
      kind: of the sequences.
      is_training: few-shot parts have other options in training than in evaluation.
    """
    sequences = config.data.sequences
    options = {name: sequences[name] for name in kind.reads}
    if kind.is_fewshot and not is_training:
        options |= {name: config.evaluation[name] for name in kind.reads if name in _FEWSHOT}
    parts = [_option(name, value) for name, value in options.items() if _matters(name, options)]
    return ", ".join([*parts, *_zipf(sequences, kind), *_labels(sequences, kind)])


def describe_data(config: ml_collections.ConfigDict) -> str:
    """What an example of `config.data` is."""
    data = config.data
    parts = [data.source]
    if "image_size" in DATA_SOURCES[data.source].reads:
        parts.append(f"{data.image_size} x {data.image_size} pixels")
    if data.drawings != "all":
        parts.append(f"drawings={data.drawings}")
    if data.noise_scale:
        parts.append(f"noise_scale={data.noise_scale:g}")
    parts += [name for name in ("inverted", "augment", "random_rare_images") if data[name]]
    split = data.split
    parts.append(f"{split.num_rare:,} rare, {split.num_common:,} common, ")
    return ", ".join(parts) + f"{split.num_holdout:,} held-out classes"


# Options that config.evaluation has for few-shot sequences.
_FEWSHOT = ("shots", "ways", "grouped", "distinct_ways")
_BURST = ("shots", "ways", "grouped", "p_bursty_zipfian", "p_bursty_common")


def _matters(name: str, options: dict[str, Any]) -> bool:
    """Whether an option has a say, and says something unusual where it is a detail."""
    p_bursty = options.get("p_bursty", 1.0)
    if name in _BURST and p_bursty == 0:
        return False
    if name in ("p_bursty_zipfian", "p_bursty_common"):
        return options["p_bursty_zipfian"] < 1
    if name == "non_bursty":
        return p_bursty < 1 and options[name] != "zipfian"
    return {"grouped": True, "distinct_ways": False}.get(name, options[name]) == options[name]


def _option(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _zipf(sequences: ml_collections.ConfigDict, kind: SequenceType) -> list[str]:
    """The Zipf exponent, unless it has no say in these sequences."""
    within = sequences.zipf_within_roles
    if kind.role == "holdout" or (kind.role != "zipfian" and not within):
        return []
    parts = [f"zipf_exponent={sequences.zipf_exponent:g}"]
    return [*parts, "zipf_within_roles"] if within and sequences.zipf_exponent else parts


def _labels(sequences: ml_collections.ConfigDict, kind: SequenceType) -> list[str]:
    if not kind.labeling:
        return []
    parts = [f"labeling={kind.labeling}"]
    if kind.labeling == "shared":
        parts.append(f"num_shared_labels={sequences.num_shared_labels}")
    if kind.labeling == "ordered" and sequences.label_multiplicity > 1:
        parts.append(f"label_multiplicity={sequences.label_multiplicity}")
    return parts
