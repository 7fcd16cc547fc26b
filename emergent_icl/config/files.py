"""Configs and sweeps by name, or in Python files of the user, with a preset."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from emergent_icl.config.check import ConfigError

# A colon elsewhere belongs to the path.
_PYTHON_FILE = re.compile(r"(.+?\.py)(?:(:)(.*))?", re.DOTALL)


class FileError(ConfigError):
    """A file that is missing, or does not hold what it should; the message says which and why."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])
        self.args = (problem,)  # In one line.


def call_file(where: str, function: str, package: str = "", names: Collection[str] = ()) -> Any:
    """What a function gives of FILE.py[:preset], or of NAME[:preset], a module of a package.

    Raises:
      FileError: there is no such file or module, or it fails.
    """
    name, colon, preset = where.partition(":")
    what, match = name, _PYTHON_FILE.fullmatch(where)
    if match is not None and name not in names:
        what, colon, preset = match.groups(default="")
    path = Path(os.path.expanduser(what)).absolute()
    if name not in names and (match is None or not path.is_file()):
        named = f", or NAME[:preset] (allowed: {', '.join(sorted(names))})" if names else ""
        nearest = difflib.get_close_matches(path.stem, list(names), n=1)
        hint = "".join(f"; did you mean '{one}{colon}{preset}'?" for one in nearest)
        missing = f"there is no file {what or repr(what)}"
        raise FileError(f"{missing}; it must be FILE.py[:preset]{named}{hint}")
    try:
        module = importlib.import_module(f"{package}.{name}") if name in names else _import(path)
        if not callable(getattr(module, function, None)):
            raise FileError(f"it has no function {function}")
        return getattr(module, function)(*([preset] if colon else []))
    except Exception as error:  # Whatever the user's own file raises.
        raise FileError(f"{what}: {_reason(error, str(path))}") from error


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that a file defines look themselves up here.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _reason(error: Exception, file: str) -> str:
    """The message; of an unexpected error in one line, with the line of the file."""
    if isinstance(error, ValueError | RuntimeError | OSError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"line {frame.lineno}: " for frame in frames if frame.filename == file]
    # A KeyError's text is in quotes, ml_collections' is of several lines.
    message = " ".join(str(error.args[0] if error.args else error).split())
    return f"{''.join(lines[-1:])}{type(error).__name__}: {message}"
