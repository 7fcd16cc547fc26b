"""Silences Orbax, whose errors the package reports itself."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silences Orbax, which logs every file that it opens and every error that it raises."""
    loggers, before = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    ignored = ignore_late_reports()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if sys.unraisablehook is ignored:  # Nothing failed.
            sys.unraisablehook = before
            logging.getLogger("asyncio").removeFilter(_is_not_orbax)


def ignore_late_reports() -> Any:
    """Sets and returns a hook for unraisable errors; keep it after a failed read or write.

    Each remaining task of a failed operation reports an error, in a thread that may end later.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(_is_not_orbax)
    return hook


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()
