"""Data sources: the registry, and which classes and exemplars a source gives.

A new source is one DataSource and one registry line, also from outside the package.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import jax
import ml_collections
import numpy as np

from emergent_icl.config.configs import flatten
from emergent_icl.config.identity import checksum_of
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import NUM_VARIANTS, ExampleBank, SourceShape
from emergent_icl.data.sequences.split import SourceClasses
from emergent_icl.data.sources.cache import checksum

# (examples [S, ...] of one sequence, key, scale) -> the same, varied
Vary = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class DataUnavailableError(RuntimeError):
    """The data of a config are not to be had here, or not fit for use."""


def add_gaussian_noise(examples: jax.Array, key: jax.Array, scale: jax.Array) -> jax.Array:
    """Independent noise of standard deviation `scale` on every number, unclipped."""
    return examples + scale * jax.random.normal(key, examples.shape)


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A kind of data. Registered under its name in DATA_SOURCES.

    Attributes:
      shape: config.data -> SourceShape, without loading the data. Raises ValueError or OSError if
        the config asks for data that do not exist.
      load: config.data -> ExampleBank of that shape.
      vary: meaning of `data.noise_scale`, applied on the device each time an image or vector is
        shown.
      reads: options of config.data that it reads besides those of its own section.
      names: config.data -> names of the classes, if they are known without loading the data.
      groups: (config.data, data.split.groups) -> the name of each class's group. Raises ValueError
        for an unknown name. None: only groups of consecutive classes exist.
      has_thin_strokes: whether encoders without normalization barely learn from it on a background
        of ones.
      generator: version of the code that generates the examples from the options of its section
        alone. Increase it whenever the examples change. None: they are read from files.
    """

    shape: Callable[[ml_collections.ConfigDict], SourceShape]
    load: Callable[[ml_collections.ConfigDict], ExampleBank]
    vary: Vary = add_gaussian_noise
    reads: tuple[str, ...] = ()
    names: Callable[[ml_collections.ConfigDict], Sequence[str]] | None = None
    groups: Callable[[ml_collections.ConfigDict, str], Sequence[str]] | None = None
    has_thin_strokes: bool = False
    generator: int | None = None


def source_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """What `config.data` shows: `drawings` and `augment` applied to its source.

    Raises:
      ValueError, OSError: the source cannot give it, or its files are not there.
    """
    shape = DATA_SOURCES[data.source].shape(data)
    variants = shape.num_exemplars if data.drawings == "separated" else 1
    if data.drawings != "all":
        shape = shape._replace(num_exemplars=1)
    if data.augment:
        if shape.kind != "image":
            raise ValueError(f"data.augment needs images, not data.source = '{data.source}'")
        variants *= NUM_VARIANTS
    classes, group_size = shape.num_classes * variants, shape.group_size * variants
    return shape._replace(num_classes=classes, group_size=group_size)


def source_classes(data: ml_collections.ConfigDict) -> SourceClasses:
    """The classes of a source by name and by group, which `config.data.split` may ask for.

    Raises:
      ValueError, OSError: the source has no such groups, or its files are not there.
    """
    source, asked = DATA_SOURCES[data.source], data.split.groups
    count, groups = source.shape(data).num_classes, None

    def names() -> Sequence[str]:
        return source.names(data) if source.names else source.load(data).class_names

    if asked.isdecimal() and int(asked) and count % int(asked) == 0:
        groups = [f"group {number // int(asked)}" for number in range(count)]
    elif source.groups and asked and not asked.isdecimal():
        groups = source.groups(data, asked)
    elif asked:
        raise ValueError(
            f"data.split.groups = '{asked}' must be '' or a number n that divides {count}, the "
            "source's classes, into groups of n consecutive ones"
        )
    return SourceClasses(count, names, groups)


def load_bank(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads the examples of `config.data`, `drawings` applied; raises DataUnavailableError.

    The variants of `data.augment` are not stored: the device computes them. `source` and `checksum`
    cover all drawings, whichever are shown.
    """
    bank = DATA_SOURCES[data.source].load(data)
    bank = bank._replace(checksum=_checksum(bank.examples))
    bank = bank._replace(source=_source_in_words(data, bank))
    if data.drawings == "single":
        return bank._replace(examples=bank.examples[:, :1])
    if data.drawings == "separated":
        drawings = range(bank.examples.shape[1])
        names = tuple(f"{name}, drawing {i}" for name in bank.class_names for i in drawings)
        examples = np.reshape(bank.examples, (-1, 1, *bank.examples.shape[2:]))
        return bank._replace(examples=examples, class_names=names)
    return bank


def _source_in_words(data: ml_collections.ConfigDict, bank: ExampleBank) -> str:
    """`ExampleBank.source`."""
    version = DATA_SOURCES[data.source].generator
    if version is not None:
        prefix = f"data.{data.source}."
        options = flatten(data.to_dict(), "data.")
        own = {path: value for path, value in options.items() if path.startswith(prefix)}
        return f"{data.source}, generator {version}, options {checksum_of(own):08x}"
    if bank.source is None:
        return f"{data.source}, checksum {bank.checksum:08x}"
    return bank.source and f"{data.source}, {bank.source}"


def _checksum(array: np.ndarray) -> int:
    kind = f"{array.dtype} {array.shape}".encode()
    return checksum(array, zlib.crc32(kind))
