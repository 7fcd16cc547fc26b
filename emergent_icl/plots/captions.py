"""One line of text about sequences or data: the options that matter for them, by their names."""

from __future__ import annotations

import ml_collections

from emergent_icl.data.task import fixed_labeling


def describe_sequences(config: ml_collections.ConfigDict, name: str, is_training: bool) -> str:
    """The options that a sequence type depends on.

    Args:
      config: the whole config.
      name: of the sequence type or evaluation mode.
      is_training: few-shot parts have other options in training than in evaluation.
    """
    sequences = config.data.sequences
    if name.startswith("fewshot_") or name == "flip":
        parts = _fewshot(sequences if is_training else config.evaluation, name)
    elif name == "mixed":
        fewshot = sequences if is_training else config.evaluation
        parts = [f"p_fewshot={sequences.p_fewshot:g}", *_fewshot(fewshot, name)]
    elif name.startswith("no_support_"):
        parts = [f"seq_len={sequences.seq_len}"]
    else:
        parts = _bursts(sequences, name)
    return ", ".join([*parts, *_zipf(sequences, name), *_labels(config, name, is_training)])


def describe_data(config: ml_collections.ConfigDict) -> str:
    """What an example of `config.data` is."""
    data = config.data
    parts = [data.source]
    if data.source in ("omniglot", "glyphs"):
        parts.append(f"{data.image_size} x {data.image_size} pixels")
    if data.drawings != "all":
        parts.append(f"drawings={data.drawings}")
    if data.noise_scale:
        parts.append(f"noise_scale={data.noise_scale:g}")
    parts += [name for name in ("inverted", "augment", "random_rare_images") if data[name]]
    split = data.split
    parts.append(f"{split.num_rare:,} rare, {split.num_common:,} common, ")
    return ", ".join(parts) + f"{split.num_holdout:,} holdout classes"


def _bursts(sequences: ml_collections.ConfigDict, name: str) -> list[str]:
    parts = [f"seq_len={sequences.seq_len}"]
    # 'relabelled' sequences are all bursty.
    may_be_iid = name != "relabelled"
    if may_be_iid:
        parts.append(f"p_bursty={sequences.p_bursty:g}")
    if sequences.p_bursty > 0 or not may_be_iid:
        parts += [f"shots={sequences.shots}", f"ways={sequences.ways}"]
        if sequences.grouped:
            parts.append("grouped")
        if sequences.p_bursty_zipfian < 1:
            parts.append(f"p_bursty_zipfian={sequences.p_bursty_zipfian:g}")
            parts.append(f"p_bursty_common={sequences.p_bursty_common:g}")
    if may_be_iid and sequences.p_bursty < 1 and sequences.non_bursty != "zipfian":
        parts.append(f"non_bursty={sequences.non_bursty}")
    return parts


def _fewshot(section: ml_collections.ConfigDict, name: str) -> list[str]:
    parts = [f"shots={section.shots}", f"ways={section.ways}"]
    if section.grouped:
        parts.append("grouped")
    # The classes of 'flip' are always different.
    if not section.distinct_ways and name != "flip":
        parts.append("distinct_ways=False")
    return parts


def _zipf(sequences: ml_collections.ConfigDict, name: str) -> list[str]:
    """The Zipf exponent, unless it has no say in these sequences."""
    if name.endswith("_holdout"):
        return []
    within = sequences.zipf_within_roles
    is_of_role = name.endswith(("_rare", "_common")) or name == "mixed"
    if is_of_role and not within:
        return []
    parts = [f"zipf_exponent={sequences.zipf_exponent:g}"]
    return [*parts, "zipf_within_roles"] if within and sequences.zipf_exponent else parts


def _labels(config: ml_collections.ConfigDict, name: str, is_training: bool) -> list[str]:
    sequences = config.data.sequences
    if name.startswith("fewshot_"):
        labeling = sequences.labeling if is_training else config.evaluation.fewshot_labeling
    else:
        labeling = fixed_labeling(config)
    parts = [f"labeling={labeling}"]
    if labeling == "shared":
        parts.append(f"num_shared_labels={sequences.num_shared_labels}")
    if labeling == "ordered" and sequences.label_multiplicity > 1:
        parts.append(f"label_multiplicity={sequences.label_multiplicity}")
    return parts
