"""A cache of arrays on disk: atomic, versioned, checked; anything wrong is built anew."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

FORMAT = "emergent_icl.cache"
FORMAT_VERSION = 1
Arrays = dict[str, np.ndarray]


def cache_folder(configured: str) -> Path:
    """The configured folder, or the user's cache folder if that is ''."""
    if configured:
        return Path(os.path.expanduser(configured))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Who has no home has no place for caches; a warning says so where one would be written.
    return Path(os.devnull if base.startswith("~") else base) / "emergent_icl"


def load_or_build(path: Path, content: Mapping[str, object], build: Callable[[], Arrays]) -> Arrays:
    """Opens the .npz file of a cache, or builds and writes it.

    `content`, JSON-able, says what the arrays are made from. A file that is damaged, or of another
    version or content, is replaced. A folder that cannot be written costs a warning, not the run.
    """
    header = {"format": FORMAT, "version": FORMAT_VERSION, "content": dict(content)}
    try:
        return _read(path, header)
    except OSError:  # It is not there, or nobody may open it; a disk that fails is said below.
        pass
    except Exception as error:  # A damaged archive can raise nearly anything.
        logger.warning("Rebuilding the cache %s: %s", path, error)
    arrays = build()
    try:
        _write(path, header, arrays)
    except OSError as error:
        logger.warning("Cannot write the cache %s (%s); going on without", path, error)
    return arrays


def _read(path: Path, header: Mapping[str, object]) -> Arrays:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if "header" not in stored.files:
            raise ValueError("it is not a cache of this library")
        found = json.loads(str(stored["header"]))
        checksums = found.pop("checksums", None)
        if found != json.loads(json.dumps(header)):
            raise ValueError("it holds another version or other content")
        arrays = {name: stored[name] for name in stored.files if name != "header"}
    if checksums != _checksums(arrays):
        raise ValueError("its checksums do not match")
    return arrays


def _write(path: Path, header: Mapping[str, object], arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**header, "checksums": _checksums(arrays)})
    whole: dict[str, Any] = {"header": np.array(text), **arrays}
    # Written beside its place and moved there: a reader sees all of it or nothing.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **whole)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _checksums(arrays: Arrays) -> dict[str, int]:
    return {name: checksum(array) for name, array in arrays.items()}


def checksum(array: np.ndarray, start: int = 0) -> int:
    """CRC-32 of the numbers in an array, continued from another."""
    data: Any = np.ascontiguousarray(array)  # NumPy declares the buffer from Python 3.12 on.
    return zlib.crc32(data, start)


def stored_checksum(path: Path, name: str) -> int | None:
    """That of an array in a cache, from its header alone; None where there is no such cache."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return json.loads(str(stored["header"]))["checksums"][name]
    except Exception:  # As in `load_or_build`.
        return None
