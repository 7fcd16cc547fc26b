"""Long work reports its progress to whoever listens; without a listener it is silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
# Called with (what is being done, parts done, parts in total); it may raise to stop the work.
Listener = Callable[[str, int, int], None]
_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, the listener is told of long work, after those that listen already."""
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)


def ticking(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, each of them a part of long work that takes a fraction of a second.

    `what` says what is being done, as in 'drawing glyphs'.
    """
    listeners = _LISTENERS.get()
    for done, item in enumerate(items):
        for listener in listeners:
            listener(what, done, total)
        yield item
    for listener in listeners:
        listener(what, total, total)
