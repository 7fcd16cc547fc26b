"""Checks of a model, on its own and with the examples that it reads.

Encoders and sequence models are registered with their own `problems` (config/registry.py). Those of
this package are below.
"""

from collections.abc import Iterator

import ml_collections

from emergent_icl.config.registry import ENCODERS, SEQUENCE_MODELS
from emergent_icl.data.bank import SourceShape
from emergent_icl.models.resnet import BOTTLENECK_RATIO, num_superpixels
from emergent_icl.models.tokens import num_tokens, position_capacity, token_width


def model_problems(
    model: ml_collections.ConfigDict, shape: SourceShape, source: str
) -> Iterator[str]:
    """Contradictions within `config.model`, or with the examples of a data source."""
    encoder = ENCODERS.about(model.encoder)
    if shape.kind not in encoder.reads:
        suitable = [name for name in ENCODERS if shape.kind in ENCODERS.about(name).reads]
        needed = " or ".join(f"{kind}s" for kind in encoder.reads)
        yield (
            f"model.encoder = '{model.encoder}' needs {needed}, "
            f"not the {shape.kind}s of data.source = '{source}' (possible: {', '.join(suitable)})"
        )
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
    """Learned positions that do not cover the longest sequence, of `seq_len` examples."""
    longest, capacity = num_tokens(seq_len, model.tokens), position_capacity(model, seq_len)
    if model.positions == "learned" and capacity < longest:
        yield (
            f"model.num_positions = {capacity} must be at least {longest}, the tokens of the "
            f"longest sequence, because positions are learned"
        )


def symbol_problems(model: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    """Problems of the table of integers."""
    if shape.num_classes > model.num_symbols:
        yield f"model.num_symbols = {model.num_symbols} must be at least {shape.num_classes}"


def resnet_problems(model: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    """Problems of block groups and of the superpixels that remain after them."""
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
    """Problems of heads, which share the width of a token."""
    if width % model.num_heads:
        yield f"model.num_heads = {model.num_heads} must divide the token width {width}"
    elif model.positions == "rotary" and width // model.num_heads % 2:
        yield (
            f"model.positions = 'rotary' needs heads of even size, but model.num_heads = "
            f"{model.num_heads} of token width {width} have size {width // model.num_heads}"
        )


def recurrent_problems(model: ml_collections.ConfigDict, _: int) -> Iterator[str]:
    """Problems of models without attention."""
    if model.positions == "rotary":
        yield (
            f"model.positions = 'rotary' needs attention, not "
            f"model.sequence_model = '{model.sequence_model}'"
        )
