"""What is wrong with a model, by itself and for the examples that it is to read.

What is wrong with an encoder or a sequence model the entry itself knows: `problems` of its
registration (config/registry.py), which for those of this package are the functions below.
"""

from __future__ import annotations

from collections.abc import Iterator

import ml_collections

from emergent_icl.config.registry import ENCODERS, SEQUENCE_MODELS
from emergent_icl.data.bank import SourceShape
from emergent_icl.models.resnet import BOTTLENECK_RATIO, num_superpixels
from emergent_icl.models.tokens import num_tokens, position_capacity, token_width


def model_problems(
    model: ml_collections.ConfigDict, shape: SourceShape, source: str
) -> Iterator[str]:
    """Contradictions in `config.model`, and between it and the examples of a data source."""
    encoder = ENCODERS.about(model.encoder)
    if shape.kind not in encoder.reads:
        if len(encoder.reads) > 1:
            yield (
                f"model.encoder = '{model.encoder}' would read the {shape.kind}s of "
                f"data.source = '{source}' as quantities; use 'embedding'"
            )
        else:
            needed = f"{encoder.reads[0]}s"
            yield f"model.encoder = '{model.encoder}' needs {needed}, not data.source = '{source}'"
    yield from encoder.problems(model, shape)
    width = token_width(model.embedding_size, model.tokens)
    if width % 2 and model.positions == "sinusoidal":
        yield f"model.embedding_size = {model.embedding_size} must be even (sines and cosines)"
    if model.positional_dropout > 0 and model.positions in ("rotary", "none"):
        yield (
            f"model.positional_dropout = {model.positional_dropout} needs positions that are "
            f"added to tokens, not model.positions = '{model.positions}'"
        )
    yield from SEQUENCE_MODELS.about(model.sequence_model).problems(model, width)


def position_problems(model: ml_collections.ConfigDict, seq_len: int) -> Iterator[str]:
    """Whether learned positions reach as far as the longest sequence, of `seq_len` examples."""
    longest, capacity = num_tokens(seq_len, model.tokens), position_capacity(model, seq_len)
    if model.positions == "learned" and capacity < longest:
        yield (
            f"model.num_positions = {capacity} must be at least {longest}, the tokens of the "
            f"longest sequence: learned positions reach no further"
        )


def symbol_problems(model: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    """Of the table of integers."""
    if shape.num_classes > model.num_symbols:
        yield f"model.num_symbols = {model.num_symbols} must be at least {shape.num_classes}"


def resnet_problems(model: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    """Of its groups of blocks, and of the superpixels that they leave of an image."""
    if shape.kind != "image":
        return
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


def attention_problems(model: ml_collections.ConfigDict, width: int) -> Iterator[str]:
    """Of heads, which share the width of a token."""
    if width % model.num_heads:
        yield f"model.num_heads = {model.num_heads} must divide the token width {width}"
    elif model.positions == "rotary" and width // model.num_heads % 2:
        yield (
            f"model.positions = 'rotary' needs heads of even size, but model.num_heads = "
            f"{model.num_heads} of token width {width} have size {width // model.num_heads}"
        )


def recurrent_problems(model: ml_collections.ConfigDict, _: int) -> Iterator[str]:
    """Of models without queries and keys."""
    if model.positions == "rotary":
        yield (
            f"model.positions = 'rotary' needs attention, not "
            f"model.sequence_model = '{model.sequence_model}'"
        )
