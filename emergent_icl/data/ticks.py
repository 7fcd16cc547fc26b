"""Progress reports of long tasks to listeners, if there are any."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
# Called with (task, items done, total items); may raise to stop the task.
Listener = Callable[[str, int, int], None]
_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Adds a listener to the current ones for the duration of the context."""
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)


def ticking(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Yields items of a long task and reports progress; `what` is, for example, 'drawing glyphs'.

    Each item should take a fraction of a second.
    """
    listeners = _LISTENERS.get()
    for done, item in enumerate(items):
        for listener in listeners:
            listener(what, done, total)
        yield item
    for listener in listeners:
        listener(what, total, total)
