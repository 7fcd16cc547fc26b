"""Captions of sequences and data: the relevant options, by name."""

from typing import Any

import ml_collections

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.sequences.split import ROLES
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import fewshot_options

# Few-shot options of config.evaluation.
_FEWSHOT = ("shots", "ways", "grouped", "distinct_ways")
_BURST = ("shots", "ways", "grouped", "p_bursty_zipfian", "p_bursty_common")
# Options that are mentioned only if they have this value.
_UNUSUAL = {"grouped": True, "distinct_ways": False, "zipf_within_roles": True}


def describe_sequences(
    config: ml_collections.ConfigDict, kind: SequenceType, is_training: bool
) -> str:
    """The relevant options of a sequence type; few-shot options differ in evaluation."""
    sequences = config.data.sequences
    options = {name: sequences[name] for name in kind.reads}
    if kind.is_fewshot and not is_training:
        evaluated = fewshot_options(config)
        options |= {name: getattr(evaluated, name) for name in kind.reads if name in _FEWSHOT}
    if config.evaluation.exemplars != "trained" and not is_training and kind.role != "holdout":
        options["exemplars"] = config.evaluation.exemplars
    within = sequences.zipf_within_roles
    if kind.role == "zipfian" or (within and kind.role != "holdout"):
        options["zipf_exponent"] = sequences.zipf_exponent
        options["zipf_within_roles"] = within and sequences.zipf_exponent > 0
    if kind.labeling:
        options["labeling"] = kind.labeling
    if kind.labeling == "shared":
        options["num_shared_labels"] = sequences.num_shared_labels
    if kind.labeling == "ordered" and sequences.label_multiplicity > 1:
        options["label_multiplicity"] = sequences.label_multiplicity
    return ", ".join(_option(name, one) for name, one in options.items() if _matters(name, options))


def _matters(name: str, options: dict[str, Any]) -> bool:
    """Whether an option has an effect and, if it is a detail, an unusual value."""
    p_bursty = options.get("p_bursty", 1.0)
    if name in _BURST and p_bursty == 0:
        return False
    if name in ("p_bursty_zipfian", "p_bursty_common"):
        return options["p_bursty_zipfian"] < 1
    if name == "non_bursty":
        return p_bursty < 1 and options[name] != "zipfian"
    return _UNUSUAL.get(name, options[name]) == options[name]


def _option(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def describe_data(config: ml_collections.ConfigDict) -> str:
    """The data source and its relevant options."""
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
    parts += [f"{split.num_rare:,} rare", f"{split.num_common:,} common"]
    parts.append(f"{split.num_holdout:,} held-out classes")
    parts += [f"groups={split.groups}"] if split.groups else []
    if split.num_holdout_exemplars:
        parts.append(f"{split.num_holdout_exemplars} exemplars of each class held out")
    parts += [f"named {role} classes" for role in ROLES if split[role]]
    return ", ".join(parts)
