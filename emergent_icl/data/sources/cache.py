"""Cache of arrays on disk: atomic, versioned, and checked; invalid files are rebuilt."""

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
    """The configured folder; '' means the user's cache folder."""
    if configured:
        return Path(os.path.expanduser(configured))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Without a home folder, nothing is cached: writing fails with a warning.
    return Path(os.devnull if base.startswith("~") else base) / "emergent_icl"


def load_or_build(path: Path, content: Mapping[str, object], build: Callable[[], Arrays]) -> Arrays:
    """Loads arrays from a .npz cache file, or builds and writes them.

    `content` (JSON-serializable) identifies what the arrays are made from. Files that are damaged,
    or have another version or content, are replaced. Failure to write only logs a warning.
    """
    try:
        return read(path, content)
    except OSError:  # Missing or unreadable; `write` reports a failing disk.
        pass
    except Exception as error:  # A damaged archive can raise nearly anything.
        logger.warning("Rebuilding the cache %s: %s", path, error)
    arrays = build()
    try:
        write(path, content, arrays)
    except OSError as error:
        logger.warning("Cannot write the cache %s (%s); continuing without it", path, error)
    return arrays


def read(path: Path, content: Mapping[str, object]) -> Arrays:
    """Loads arrays of this content from a file.

    Raises:
      OSError: it cannot be opened. Nearly anything else: it is damaged or something else.
    """
    # NumPy would leave the file open if it is not an archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if "header" not in stored.files:
            raise ValueError("it is not a cache of this library")
        found = json.loads(str(stored["header"]))
        checksums = found.pop("checksums", None)
        if found != json.loads(json.dumps(_header(content))):
            raise ValueError("its version or content differs")
        arrays = {name: stored[name] for name in stored.files if name != "header"}
    if checksums != _checksums(arrays):
        raise ValueError("its checksums do not match")
    return arrays


def write(path: Path, content: Mapping[str, object], arrays: Arrays) -> None:
    """Writes arrays atomically, for `read`; creates the folder. Raises OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**_header(content), "checksums": _checksums(arrays)})
    whole: dict[str, Any] = {"header": np.array(text), **arrays}
    # Renaming is atomic: readers see the whole file or none.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **whole)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _header(content: Mapping[str, object]) -> dict[str, object]:
    return {"format": FORMAT, "version": FORMAT_VERSION, "content": dict(content)}


def _checksums(arrays: Arrays) -> dict[str, int]:
    return {name: checksum(array) for name, array in arrays.items()}


def checksum(array: np.ndarray, start: int = 0) -> int:
    """Computes the CRC-32 of an array's values, continued from `start`."""
    data: Any = np.ascontiguousarray(array)  # NumPy declares buffers only for Python >= 3.12.
    return zlib.crc32(data, start)


def stored_checksum(path: Path, name: str) -> int | None:
    """Reads an array's checksum from the header of a cache; None if there is no such cache."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return json.loads(str(stored["header"]))["checksums"][name]
    except Exception:  # As in `load_or_build`.
        return None
