"""Omniglot from TensorFlow Datasets, decoded once into a cache that needs no TensorFlow.

1,623 characters x 20 drawings, 105 x 105, binary (Lake et al., Science 350, 2015).
"""

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import WHITE, ExampleBank, SourceShape
from emergent_icl.data.sources import cache
from emergent_icl.data.sources.source import DataSource, DataUnavailableError
from emergent_icl.data.tensorflow import import_tensorflow, native_stderr_closed, unchanged_process
from emergent_icl.data.ticks import ticking

TFDS_NAME = "omniglot"
TFDS_VERSION = "3.0.0"
# The dataset's own split is by alphabet; TFDS numbers the 'train' characters first.
SPLITS = {"all": slice(0, 1623), "train": slice(0, 964), "test": slice(964, 1623)}
NUM_CLASSES = 1623
NUM_EXEMPLARS = 20
FULL_SIZE = 105
# Drawings decoded at a time.
BATCH = 512
# Where TFDS downloads from.
_HOST, _HOST_SECONDS = "https://github.com", 20


def omniglot_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """The classes of `data.omniglot.split` x 20 images of `data.image_size`."""
    size, classes = (data.image_size, data.image_size), SPLITS[data.omniglot.split]
    return SourceShape(classes.stop - classes.start, NUM_EXEMPLARS, size, "image")


def load_omniglot(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads classes in the order of TFDS labels, and drawings in the order of its files."""
    arrays = _arrays(data.data_dir, data.cache_dir, data.image_size)
    images = arrays["images"] if "images" in arrays else _unpack(arrays["packed"])
    classes = SPLITS[data.omniglot.split]
    names = tuple(arrays["names"][classes].tolist())
    source = f"drawings {int(arrays['source']):08x}" if "source" in arrays else ""
    return ExampleBank("omniglot", images[classes], names, source)


def omniglot_names(data: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Alphabet and number of each character, from 0: 'Arcadian_0', ..."""
    names = _names(data.data_dir, data.cache_dir, data.image_size)
    return tuple(names[SPLITS[data.omniglot.split]].tolist())


def omniglot_groups(data: ml_collections.ConfigDict, name: str) -> Sequence[str]:
    """The 'alphabet' or the 'character' of each class."""
    if name not in ("alphabet", "character"):
        raise ValueError(
            f"data.split.groups = '{name}' must be '', 'alphabet', 'character', or a number n, for "
            f"groups of n consecutive classes"
        )
    names = omniglot_names(data)
    return [whole.rpartition("_")[0] for whole in names] if name == "alphabet" else names


@functools.cache
def _names(data_dir: str, cache_dir: str, size: int) -> np.ndarray:
    """Names of all classes; cached, since configs are checked often."""
    return _arrays(data_dir, cache_dir, size)["names"]


def _arrays(data_dir: str, cache_dir: str, size: int) -> cache.Arrays:
    """Names, resized images or 'packed' full-size ones, and, if known, their checksum 'source'."""

    def path(size: int) -> Path:
        return cache.cache_folder(cache_dir) / f"omniglot-{TFDS_VERSION}-{size}px.npz"

    def cached(size: int, build: Callable[[], cache.Arrays], **filters: str) -> cache.Arrays:
        return cache.load_or_build(path(size), _content(size) | filters, build)

    def full() -> cache.Arrays:
        where = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "")).expanduser()
        return _prepared(where) if where.is_file() else cached(FULL_SIZE, lambda: _decode(data_dir))

    if size == FULL_SIZE:
        full_size = full()
        return full_size | {"source": np.array(cache.checksum(full_size["packed"]))}
    arrays = cached(size, lambda: _resized(full(), size), filter="bilinear")
    if "source" not in arrays:  # Resized by an earlier version.
        known = cache.stored_checksum(path(FULL_SIZE), "packed")
        return arrays if known is None else arrays | {"source": np.array(known)}
    return arrays


def _content(size: int) -> dict[str, Any]:
    """What identifies cached arrays and prepared files."""
    return {"dataset": TFDS_NAME, "tfds_version": TFDS_VERSION, "size": size}


def prepare(path: Path, data: ml_collections.ConfigDict) -> None:
    """Writes all drawings, one bit per pixel, to a file that `data.data_dir` may name.

    Raises:
      DataUnavailableError: Omniglot is not available here. OSError: the file cannot be written.
    """
    arrays = _arrays(data.data_dir, data.cache_dir, FULL_SIZE)
    cache.write(path, _content(FULL_SIZE), {name: arrays[name] for name in ("packed", "names")})


def is_prepared(path: Path) -> bool:
    """Whether `prepare` wrote a file, which is intact."""
    try:
        return bool(_prepared(path))
    except DataUnavailableError:
        return False


def _prepared(path: Path) -> cache.Arrays:
    """Packed drawings and names from a file that `prepare` wrote."""
    try:
        return cache.read(path, _content(FULL_SIZE))
    except Exception as error:  # A damaged archive can raise nearly anything.
        raise DataUnavailableError(
            f"{path} is not an intact file of Omniglot, as the command prepare-data writes it "
            f"({error})"
        ) from error


@unchanged_process()
def _decode(data_dir: str) -> cache.Arrays:
    """Reads packed drawings, uint8 [1623, 20, bytes], and names from TFDS."""
    named = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "")).expanduser()
    if named.suffix == ".npz" and not named.exists():  # TFDS would make it a folder.
        raise DataUnavailableError(f"{named.absolute()} does not exist. {_HINTS[bool(data_dir)]}")
    try:
        builder = _prepared_builder(data_dir)
    except Exception as error:  # The network, a package, or a folder is missing.
        where = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
        hint = f"\n  {_HINTS[True]}" * bool(data_dir)
        raise DataUnavailableError(_ADVICE.format(where=where, error=error) + hint) from error
    try:
        with native_stderr_closed():
            return _read(builder)
    except Exception as error:  # TensorFlow has many errors for damaged or missing files.
        why = re.sub(r"{{.*}} | \[Op:.*", "", str(error).partition("\n")[0])
        raise DataUnavailableError(_DAMAGED.format(where=builder.data_dir, why=why)) from error


def _prepared_builder(data_dir: str) -> Any:
    import_tensorflow()
    import requests
    import tensorflow_datasets as tfds

    builder = tfds.builder(
        f"{TFDS_NAME}:{TFDS_VERSION}", data_dir=os.path.expanduser(data_dir) or None
    )
    downloads = Path(builder.data_dir).parents[1] / "downloads"
    if not builder.is_prepared() and not any(downloads.rglob("*.zip")):
        # Fail early: TFDS would retry for minutes without a network.
        requests.head(_HOST, timeout=_HOST_SECONDS)
    builder.download_and_prepare()
    return builder


def _read(builder: Any) -> cache.Arrays:
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split="train+test",
        shuffle_files=False,
        batch_size=BATCH,
        # One file after another: data.drawings = 'single' depends on the order.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    drawings: list[list[np.ndarray]] = [[] for _ in range(NUM_CLASSES)]
    count = -(-NUM_CLASSES * NUM_EXEMPLARS // BATCH)
    for batch in ticking("decoding Omniglot", dataset.as_numpy_iterator(), count):
        ink_free = batch["image"][..., 0] > WHITE // 2
        packed = np.packbits(ink_free.reshape(len(ink_free), -1), axis=-1)
        for label, bits in zip(batch["label"], packed, strict=True):
            drawings[label].append(bits)
    counts = {len(of_class) for of_class in drawings}
    if counts != {NUM_EXEMPLARS}:
        raise ValueError(f"{sorted(counts)} drawings per class instead of {NUM_EXEMPLARS}")
    packed = np.stack([np.stack(of_class) for of_class in drawings])
    return {"packed": packed, "names": np.array(builder.info.features["label"].names)}


# By whether data.data_dir names the data.
_HINTS = {
    False: "TFDS_DATA_DIR must be a folder of datasets, or a file that prepare-data wrote.",
    True: "data.data_dir takes precedence over TFDS_DATA_DIR. To name another place: "
    "--config.data.data_dir=... (with --config), --set=data.data_dir=... (sweeps), or "
    "--data_dir=... (commands that open a run, prepare-data).",
}

_ADVICE = """Omniglot is not in {where} and cannot be downloaded ({error}).
  Prepare it on a machine with internet access:
    python -c "import tensorflow_datasets as tfds; tfds.load('omniglot')"
  Copy the folder ~/tensorflow_datasets/omniglot to this machine, and set TFDS_DATA_DIR (or
  --config.data.data_dir) to the folder that contains 'omniglot'. Or write one file there, which
  needs no TensorFlow here, and set it to that file: emergent-icl prepare-data --out=FILE
  Procedural characters need no download: --config=glyphs:demo"""

_DAMAGED = """Omniglot in {where} is damaged ({why}).
  Copy that folder again, or remove it to download and prepare it again."""


def _unpack(packed: np.ndarray) -> np.ndarray:
    pixels = np.unpackbits(packed, axis=-1, count=FULL_SIZE * FULL_SIZE)
    # 1 -> 255 by wrapping around: half the memory traffic of a product.
    np.negative(pixels, out=pixels)
    return pixels.reshape(*packed.shape[:2], FULL_SIZE, FULL_SIZE)


def _resized(full: cache.Arrays, size: int) -> cache.Arrays:
    images = _unpack(full["packed"])
    resized = np.empty((*images.shape[:2], size, size), np.uint8)
    for class_id in ticking("resizing Omniglot", range(len(images)), len(images)):
        for exemplar, pixels in enumerate(images[class_id]):
            # Pillow antialiases when it shrinks an image.
            image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
            resized[class_id, exemplar] = np.asarray(image)
    source = np.array(cache.checksum(full["packed"]))
    return {"images": resized, "names": full["names"], "source": source}


DATA_SOURCES.register("omniglot")(
    DataSource(
        omniglot_shape,
        load_omniglot,
        reads=("image_size", "data_dir", "cache_dir"),
        names=omniglot_names,
        groups=omniglot_groups,
        has_thin_strokes=True,
    )
)
