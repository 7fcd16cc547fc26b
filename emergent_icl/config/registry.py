"""Named choices that anyone can extend: one function, one registry line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to entries of one kind, with errors that help.

    Entries are added by decorator, from inside or outside this package::

        @SEQUENCE_TYPES.register("my_type")
        def my_type(...): ...
    """

    def __init__(self, kind: str, base: Registry[T] | None = None) -> None:
        """Makes an empty registry.

        Args:
          kind: what the entries are, for error messages.
          base: a registry whose entries belong to this one too.
        """
        self.kind = kind
        self._base = base
        self._own: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that adds its argument under `name`.

        Raises:
          ValueError: the name is taken by another entry.
        """

        def add(entry: T) -> T:
            if name in self:
                raise ValueError(f"{self.kind} '{name}' is registered already")
            self._own[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        entries = self._entries()
        if name not in entries:
            raise KeyError(unknown_name(self.kind, name, entries))
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def _entries(self) -> dict[str, T]:
        return {**(self._base or {}), **self._own}


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """The message for a name that is not among the allowed ones: nearest first."""
    allowed = sorted(allowed)
    hint = nearest_name(name, allowed)
    return f"{kind} '{name}' is unknown (allowed: {', '.join(allowed)}){hint}"


def nearest_name(name: object, allowed: Iterable[str]) -> str:
    """'; did you mean ...?' for a name that resembles an allowed one, else ''."""
    near = difflib.get_close_matches(name, list(allowed), n=1) if isinstance(name, str) else []
    return did_you_mean(near)


def did_you_mean(names: Sequence[str]) -> str:
    """'; did you mean 'a' or 'b'?', or '' for no names."""
    if not names:
        return ""
    return f"; did you mean {' or '.join(repr(name) for name in names)}?"


def nearest_options(path: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with up to three options that resemble a path, else ''.

    An option that is only in the wrong section comes first.
    """
    known = list(known)
    name = path.rsplit(".", 1)[-1]
    names = [option.rsplit(".", 1)[-1] for option in known]
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.75)
    found = [
        *(option for option, own in zip(known, names, strict=True) if own == name),
        *difflib.get_close_matches(path, known, n=3, cutoff=0.8),
        *(option for option, own in zip(known, names, strict=True) if own in similar),
    ]
    return did_you_mean(list(dict.fromkeys(found))[:3])
