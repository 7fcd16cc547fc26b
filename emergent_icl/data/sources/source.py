"""Data sources, and which of their classes and exemplars a config shows.

To add a source, register one DataSource, also from outside the package.
"""

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

# (examples [S, ...] of one sequence, key, scale) -> varied examples [S, ...]
Vary = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class DataUnavailableError(RuntimeError):
    """The data of a config are unavailable or unusable."""


def add_gaussian_noise(examples: jax.Array, key: jax.Array, scale: jax.Array) -> jax.Array:
    """Adds independent, unclipped noise of standard deviation `scale` to every number."""
    return examples + scale * jax.random.normal(key, examples.shape)


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A kind of data. Registered under its name in DATA_SOURCES.

    Attributes:
      shape: config.data -> SourceShape, without loading the data. Raises ValueError or OSError.
      load: config.data -> ExampleBank of that shape.
      vary: meaning of `data.noise_scale`, applied on the device whenever an example is shown.
      reads: options of config.data that it reads outside its own section.
      names: config.data -> class names, if known without loading the data.
      groups: (config.data, data.split.groups) -> group name of each class. Raises ValueError for
        unknown names. None: only groups of consecutive classes exist.
      keep_classes: options of its own section that do not change what class c is: the numbers of
        classes and exemplars, and how exemplars vary.
      has_thin_strokes: dark on white, it is barely learned by encoders without normalization.
      generator: version of the code that generates examples from its options alone; increase it
        whenever examples change. None: examples are read from files.
    """

    shape: Callable[[ml_collections.ConfigDict], SourceShape]
    load: Callable[[ml_collections.ConfigDict], ExampleBank]
    vary: Vary = add_gaussian_noise
    reads: tuple[str, ...] = ()
    names: Callable[[ml_collections.ConfigDict], Sequence[str]] | None = None
    groups: Callable[[ml_collections.ConfigDict, str], Sequence[str]] | None = None
    keep_classes: tuple[str, ...] = ()
    has_thin_strokes: bool = False
    generator: int | None = None


def source_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Shape of the examples after `drawings` and `augment`; raises ValueError or OSError."""
    shape, shown = DATA_SOURCES[data.source].shape(data), shown_classes(data)
    if data.augment and shape.kind != "image":
        raise ValueError(f"data.augment needs images, not data.source = '{data.source}'")
    if data.drawings != "all":
        shape = shape._replace(num_exemplars=1)
    return shape._replace(
        num_classes=shape.num_classes * shown, group_size=shape.group_size * shown
    )


def shown_classes(data: ml_collections.ConfigDict) -> int:
    """Number n of consecutive classes that show one class of the source.

    They are its separated drawings and augmented variants: class c shows class c // n of the
    source.
    """
    is_separated = data.drawings == "separated"
    drawings = DATA_SOURCES[data.source].shape(data).num_exemplars if is_separated else 1
    return drawings * (NUM_VARIANTS if data.augment else 1)


def source_classes(data: ml_collections.ConfigDict) -> SourceClasses:
    """Names and groups of a source's classes, for `config.data.split`.

    Raises ValueError or OSError if there are no such groups, or files are missing.
    """
    source, groups = DATA_SOURCES[data.source], data.split.groups
    count, group_of = source.shape(data).num_classes, None

    def names() -> Sequence[str]:
        return source.names(data) if source.names else source.load(data).class_names

    if groups.isdecimal() and int(groups) and count % int(groups) == 0:
        group_of = [f"group {number // int(groups)}" for number in range(count)]
    elif source.groups and groups and not groups.isdecimal():
        group_of = source.groups(data, groups)
    elif groups:
        raise ValueError(
            f"data.split.groups = '{groups}' must be '' or a number n that divides {count}, the "
            "source's classes, into groups of n consecutive ones"
        )
    return SourceClasses(count, names, group_of)


def load_bank(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads the examples of `config.data` after `drawings`; raises DataUnavailableError.

    The device computes the variants of `data.augment`. `source` and `checksum` cover all drawings.
    """
    bank = DATA_SOURCES[data.source].load(data)
    _check_declared(DATA_SOURCES[data.source].shape(data), bank)
    kind = f"{bank.examples.dtype} {bank.examples.shape}".encode()
    bank = bank._replace(checksum=checksum(bank.examples, zlib.crc32(kind)))
    bank = bank._replace(source=_source_in_words(data, bank))
    if data.drawings == "single":
        return bank._replace(examples=bank.examples[:, :1])
    if data.drawings == "separated":
        drawings = range(bank.examples.shape[1])
        names = tuple(f"{name}, drawing {i}" for name in bank.class_names for i in drawings)
        examples = np.reshape(bank.examples, (-1, 1, *bank.examples.shape[2:]))
        return bank._replace(examples=examples, class_names=names)
    return bank


def _check_declared(shape: SourceShape, bank: ExampleBank) -> None:
    """Raises DataUnavailableError unless a bank has the shape that its source declares.

    Devices read other elements than those asked for if indices exceed the array.
    """
    kinds = {"image": np.uint8, "vector": np.float32, "integer": np.int32}
    declared = (shape.num_classes, shape.num_exemplars, *shape.example_shape)
    found, count = bank.examples, len(bank.class_names)
    is_named = count in (0, shape.num_classes)
    if found.shape != declared or found.dtype != kinds[shape.kind] or not is_named:
        raise DataUnavailableError(
            f"the source of {bank.name} loaded {found.dtype} {list(found.shape)} with {count} "
            f"class names, but its shape declares {np.dtype(kinds[shape.kind])} {list(declared)}"
        )


def _source_in_words(data: ml_collections.ConfigDict, bank: ExampleBank) -> str:
    version = DATA_SOURCES[data.source].generator
    if version is not None:
        section = data.get(data.source, ml_collections.ConfigDict())
        own = flatten(section.to_dict(), f"data.{data.source}.")
        return f"{data.source}, generator {version}, options {checksum_of(own):08x}"
    if bank.source is None:
        return f"{data.source}, checksum {bank.checksum:08x}"
    return bank.source and f"{data.source}, {bank.source}"
