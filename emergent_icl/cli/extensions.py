"""Modules that a user adds to the registries: --extensions=my_module,another (docs/extending.md).

Imported before the other flags are parsed, because those may speak of what they register.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence

from absl import flags

# For --help: its value is read from the command line before flags are parsed.
EXTENSIONS = flags.DEFINE_list(
    "extensions",
    [],
    "Modules to import first: what they register can be named (docs/extending.md).",
)
_FLAG = re.compile(r"--?extensions(?:=(?P<names>.*))?")


class ExtensionError(RuntimeError):
    """A module named by --extensions cannot be imported."""


def import_extensions(argv: Sequence[str]) -> None:
    """Imports the modules that a command line names.

    Raises:
      ExtensionError: one of them cannot be imported; says why.
    """
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if match := _FLAG.fullmatch(word):
            names = following if match["names"] is None else match["names"]
            for name in filter(None, names.split(",")):
                _import(name)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # Whatever the user's own module raises.
        reason = f"{type(error).__name__}: {error}"
        raise ExtensionError(f"--extensions: {name} cannot be imported ({reason})") from error
