"""Configs and sweeps by name, or in the user's Python files, with a preset."""

import difflib
import importlib
import importlib.util
import inspect
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
    """A missing or invalid file; the message names it and the reason, in one line."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])
        self.args = (problem,)


def call_file(where: str, function: str, package: str = "", names: Collection[str] = ()) -> Any:
    """Calls a function in FILE.py[:preset], or in NAME[:preset], a module of a package.

    Raises FileError if there is no such file or module, or the call fails.
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
        found = getattr(module, function)
        if colon and not inspect.signature(found).parameters:
            raise FileError(f"it has no presets, such as '{preset}'")
        return found(*([preset] if colon else []))
    except Exception as error:  # The user's file may raise anything.
        raise FileError(f"{what}: {_reason(error, str(path))}") from error


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module here.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _reason(error: Exception, file: str) -> str:
    """The message; of unexpected errors in one line, with the line number in the file."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, ValueError | RuntimeError | OSError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"line {frame.lineno}: " for frame in frames if frame.filename == file]
    # KeyError quotes its text; ml_collections writes several lines.
    message = " ".join(str(error.args[0] if error.args else error).split())
    return f"{''.join(lines[-1:])}{type(error).__name__}: {message}"
