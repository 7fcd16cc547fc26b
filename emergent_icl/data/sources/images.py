"""Users' images: a folder CLASS/*.png or .jpg, or an array in a file.

Images become gray squares of data.image_size: transparent parts become white, and images that are
not square are padded with white. In nested folders, the path names the class, and the parent folder
its group.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import ml_collections
import numpy as np
from PIL import Image, ImageOps

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import WHITE, ExampleBank, SourceShape
from emergent_icl.data.sources import arrays, cache
from emergent_icl.data.sources.source import DataSource, DataUnavailableError
from emergent_icl.data.ticks import ticking

# Version of decoding and resizing; increasing it invalidates caches.
DECODING_VERSION = 1
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
# No image is narrower; a last axis that is, is one of channels.
MIN_WIDTH = 5


def _objection(shape: tuple[int, ...], dtype: np.dtype) -> str:
    if len(shape) == 2 and shape[1] < MIN_WIDTH:
        return f"at least {MIN_WIDTH} pixels wide; [N, H, W, channels] needs data.images.labels"
    if len(shape) == 3 and shape[2] not in (1, 3):
        return f"of 1 or 3 channels (the last axis), not {shape[2]}"
    is_valid = dtype == np.uint8 or np.issubdtype(dtype, np.floating)
    return "" if is_valid else "uint8, or floating-point numbers in [0, 1]"


_FORM = arrays.Form("images", "H x W (x channels)", (2, 3), _objection)


def images_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Lists the folder, or reads the header of the file; raises ValueError if it is invalid."""
    if _is_folder(data):
        names, files = _listed(data)
        num_classes, num_exemplars = len(names), len(files[0])
    else:
        num_classes, num_exemplars, *_ = arrays.read_examples(data, _FORM).shape
    return SourceShape(num_classes, num_exemplars, (data.image_size, data.image_size), "image")


def load_images(data: ml_collections.ConfigDict) -> ExampleBank:
    """Decodes and resizes the images; those of a folder are cached.

    Raises DataUnavailableError if a file cannot be read, a number is outside [0, 1], or an array of
    uint8 holds only 0 and 1.
    """
    try:
        names, made = _from_folder(data) if _is_folder(data) else _from_file(data)
    except ValueError as error:
        raise DataUnavailableError(str(error)) from error
    name, source = Path(data.images.path).name, f"pixels {int(made['source']):08x}"
    return ExampleBank(f"images {name}", made["images"], names, source)


def images_names(data: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Paths of the folders, 'CLASS' or 'GROUP/CLASS', or sorted labels; else 'class 0', ..."""
    return _listed(data)[0] if _is_folder(data) else arrays.read_examples(data, _FORM).names


def images_groups(data: ml_collections.ConfigDict, name: str) -> Sequence[str]:
    """The 'parent' folder of each class; for a file, an array [classes]."""
    if not _is_folder(data):
        return arrays.read_groups(data, "images", name, images_shape(data).num_classes)
    if name != "parent":
        raise ValueError(
            f"data.split.groups = '{name}' must be '', 'parent' (the folder above a class), or a "
            "number n, for groups of n consecutive classes"
        )
    return [whole.rpartition("/")[0] for whole in images_names(data)]


def _is_folder(data: ml_collections.ConfigDict) -> bool:
    """Whether the path is a folder, not a file; raises ValueError if it is neither."""
    path = Path(data.images.path).expanduser()
    if data.images.path and path.is_dir():
        if unused := data.images.array or data.images.labels:
            raise ValueError(
                f"data.images.array and data.images.labels must be '', not '{unused}': the folders "
                f"in {path} are the classes"
            )
        return True
    if path.suffix.lower() not in arrays.SUFFIXES:
        raise ValueError(
            f"data.images.path = '{data.images.path}' must be an existing folder CLASS/*.png, "
            f".jpg, or .jpeg, or a file that ends with {', '.join(arrays.SUFFIXES)}"
        )
    return False


def _listed(data: ml_collections.ConfigDict) -> tuple[tuple[str, ...], list[list[str]]]:
    """Sorted class names and files [classes][exemplars] of a folder."""
    root = Path(data.images.path).expanduser()
    stamps, found = _LISTINGS.get(root, ({}, {}))
    if not stamps or any(_stamp(folder) != stamp for folder, stamp in stamps.items()):
        stamps, found = _LISTINGS[root] = _walked(root)
    counts = [len(files) for files in found.values()]
    count = arrays.common_count(data, "images", [*found], counts)
    return tuple(found), [files[:count] for files in found.values()]


# Configs are checked often. Root -> modification times of its folders, and files by class.
_LISTINGS: dict[Path, tuple[dict[str, int], dict[str, list[str]]]] = {}


def _stamp(folder: str) -> int:
    return os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0


def _walked(root: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """An entry of `_LISTINGS`; raises ValueError unless there are only folders of images."""

    def unlistable(error: OSError) -> NoReturn:
        raise error

    def visible(names: list[str]) -> list[str]:
        return sorted(n for n in names if n[0] != "." and n.lower() not in _IGNORED)

    where, stamps, found = f"data.images.path = '{root}'", {}, {}
    for folder, subfolders, files in os.walk(root, onerror=unlistable, followlinks=True):
        stamps[folder] = _stamp(folder)
        subfolders[:] = visible(subfolders)
        paths = [os.path.join(folder, name) for name in visible(files)]
        is_class = not subfolders and folder != str(root)
        for path in paths:
            if not path.lower().endswith(IMAGE_SUFFIXES):
                raise ValueError(f"{where}: {path} is not a .png, .jpg, or .jpeg image")
            if not is_class:
                raise ValueError(
                    f"{where}: {path} is not in a class folder; expected CLASS/*.png or "
                    "GROUP/CLASS/*.png"
                )
        if is_class:
            found[Path(folder).relative_to(root).as_posix()] = paths
    if not any(found.values()):
        raise ValueError(f"{where} holds no images; expected CLASS/*.png, .jpg, or .jpeg")
    return stamps, found


def _from_folder(data: ml_collections.ConfigDict) -> tuple[tuple[str, ...], cache.Arrays]:
    """Names, and the result of `_made`, from the cache unless a file has changed."""
    names, files = _listed(data)
    start = len(str(Path(data.images.path).expanduser()))
    every = ((file[start:], os.stat(file)) for of_class in files for file in of_class)
    stats = [(name, found.st_size, found.st_mtime_ns) for name, found in every]
    content = {
        "decoding": DECODING_VERSION,
        "image_size": data.image_size,
        "files": hashlib.sha256(repr(stats).encode(errors="surrogateescape")).hexdigest(),
    }
    key = f"{data.image_size}px-{content['files'][:16]}"
    path = cache.cache_folder(data.cache_dir) / f"images-{key}.npz"
    counts = (len(files), len(files[0]))
    return names, cache.load_or_build(
        path, content, lambda: _made(counts, data.image_size, lambda c, e: _decoded(files[c][e]))
    )


def _from_file(data: ml_collections.ConfigDict) -> tuple[tuple[str, ...], cache.Arrays]:
    """Names, and the result of `_made`; floating-point numbers are rounded to 8 bits."""
    shape, names, values = arrays.read_examples(data, _FORM, whole=True)
    assert values is not None
    if values.dtype == np.uint8 and values.max() <= 1:
        raise ValueError(
            f"data.images.path = '{data.images.path}' holds no level above {values.max()}, but "
            "uint8 images have levels from 0 to 255: multiply masks of 0 and 1 by 255, or store "
            "them as floating-point numbers"
        )

    def image(class_id: int, exemplar: int) -> Image.Image:
        pixels = values[class_id, exemplar]
        if pixels.dtype != np.uint8:
            low, high = pixels.min(), pixels.max()
            if not (low >= 0 and high <= 1):  # Also rejects NaN.
                raise ValueError(
                    f"data.images.path = '{data.images.path}': example {exemplar} of class "
                    f"'{names[class_id]}' has values from {low:g} to {high:g}; floating-point "
                    "images must lie in [0, 1] (255 levels are uint8)"
                )
            pixels = np.round(pixels * WHITE).astype(np.uint8)
        return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).convert("L")

    return names, _made(shape[:2], data.image_size, image)


def _made(
    counts: tuple[int, ...], size: int, image: Callable[[int, int], Image.Image]
) -> cache.Arrays:
    """Images uint8 [classes, exemplars, size, size], and a checksum of the unresized ones."""
    images, checksum = np.empty((*counts, size, size), np.uint8), 0
    for class_id in ticking("reading images", range(counts[0]), counts[0]):
        for exemplar in range(counts[1]):
            gray = image(class_id, exemplar)
            checksum = zlib.crc32(gray.tobytes(), zlib.crc32(repr(gray.size).encode(), checksum))
            if gray.size != (size, size):
                # Pillow antialiases when it shrinks an image.
                gray = ImageOps.pad(gray, (size, size), Image.Resampling.BILINEAR, color=WHITE)
            images[class_id, exemplar] = np.asarray(gray)
    return {"images": images, "source": np.array(checksum)}


def _decoded(file: str) -> Image.Image:
    """Reads an image file: gray, upright, with white where it is transparent."""
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # Pillow would clip 16 bits.
                return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            return image.convert("L")
    except Exception as error:  # A damaged image can raise nearly anything.
        why = str(error).replace(file, "it").splitlines() or [type(error).__name__]
        raise ValueError(f"data.images.path: {file} is not a readable image ({why[0]})") from error


DATA_SOURCES.register("images")(
    DataSource(
        images_shape,
        load_images,
        reads=("image_size", "cache_dir"),
        names=images_names,
        groups=images_groups,
        keep_classes=("num_exemplars",),
    )
)
