"""Named choices that anyone can extend by one function and one line.

The registries are defined here, empty, so that options can refer to a room's entries without
importing it; each room fills its own when it is imported.
"""

from __future__ import annotations

import difflib
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to entries of one kind, with errors that help.

    Entries are added by decorator, from inside or outside this package::

        @SEQUENCE_TYPES.register("my_type")
        def my_type(...): ...
    """

    def __init__(self, kind: str, *bases: Registry[T], **facts: Any) -> None:
        """Makes an empty registry; `kind` is what error messages call its entries.

        Entries of `bases` belong to it too. `facts` are what others may ask about an entry, with
        the defaults.
        """
        self.kind, self._defaults = kind, facts
        self._entries: ChainMap[str, T] = ChainMap({}, *(base._entries for base in bases))
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """A decorator that adds its argument; `facts` are those that differ from the defaults.

        Raises:
          ValueError: the name is already registered.
          TypeError: the registry has no such fact.
        """
        unknown = sorted(facts.keys() - self._defaults.keys())
        if unknown:
            raise TypeError(f"{self.kind} '{name}': nobody asks for {', '.join(unknown)}")

        def add(entry: T) -> T:
            if name in self:
                raise ValueError(f"{self.kind} '{name}' is registered already")
            self._entries[name], self._facts[name] = entry, facts
            return entry

        return add

    def about(self, name: str) -> SimpleNamespace:
        """The facts about an entry; for an unknown name the defaults."""
        return SimpleNamespace(**(self._defaults | self._facts.get(name, {})))

    def __repr__(self) -> str:
        return f"<{self.kind}s: {', '.join(self)}>"

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise KeyError(unknown_name(self.kind, name, self))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def no_problems(*_: Any) -> tuple[str, ...]:
    """For entries that fit everything."""
    return ()


# data/sources: DataSource.
DATA_SOURCES: Registry = Registry("data source")
# data/sequences: (ClassSpace, SequenceOptions) -> SequenceType.
SEQUENCE_TYPES: Registry = Registry("sequence type")
# Every sequence type can be evaluated on; what is registered here alone cannot be trained on.
EVALUATION_MODES: Registry = Registry("evaluation mode", SEQUENCE_TYPES)
# data/feed.py: (FeedSpec, first step) -> iterator of batches.
FEEDERS: Registry = Registry("feeder")
# models/encoders.py: (config.model, mean_over_devices) -> Encoder.
#   reads: kinds of examples that it takes, see SourceShape.
#   has_convolutions: slower in a loop on CPU; assumed of unknown encoders.
#   is_normalized: it learns from thin strokes on a background of ones.
#   problems: (config.model, SourceShape) -> why such examples cannot be encoded.
ENCODERS: Registry = Registry(
    "encoder", reads=("image", "vector", "integer"), has_convolutions=True, is_normalized=False,
    problems=no_problems,
)  # fmt: skip
# models/transformer.py, recurrent.py: (config.model) -> SequenceModel.
#   problems: (config.model, width of a token) -> what is wrong with such a model.
SEQUENCE_MODELS: Registry = Registry("sequence model", problems=no_problems)
# training/optimizers.py: (update number, Hyper, number of updates) -> learning rate.
#   reads_num_steps: rates depend on the number of steps, so a longer run is another run.
#   needs_warmup: without one the rate falls from the first step on.
SCHEDULES: Registry = Registry("schedule", reads_num_steps=True, needs_warmup=False)
# runs/loggers.py: (Opening) -> an object with write(step, {replica: metrics}) and close(failed).
#   package: which it needs, of an optional extra of the same name; '' for none.
#   is_essential: a failure ends the run; else it is reported once, and the logger is left out.
LOGGERS: Registry = Registry("logger", package="", is_essential=False)


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """The message for a name that is not allowed, with those that are and the nearest."""
    allowed = sorted(allowed)
    hint = nearest_name(name, allowed)
    return f"{kind} '{name}' is unknown (allowed: {', '.join(allowed)}){hint}"


def nearest_name(name: object, allowed: Iterable[str]) -> str:
    """'; did you mean ...?' for a name that resembles an allowed one, else ''."""
    is_text = isinstance(name, str)
    return _did_you_mean(difflib.get_close_matches(name, list(allowed), n=1) if is_text else [])


def _did_you_mean(names: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else ""


def nearest_options(path: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with up to three options that resemble a path, else ''.

    An option that is only in the wrong section comes first.
    """
    names = {option: option.rpartition(".")[2] for option in known}
    name = path.rpartition(".")[2]
    similar = difflib.get_close_matches(name, names.values(), n=3, cutoff=0.75)
    found = [
        *(option for option in names if names[option] == name),
        *difflib.get_close_matches(path, names, n=3, cutoff=0.8),
        *(option for option in names if names[option] in similar),
    ]
    return _did_you_mean(list(dict.fromkeys(found))[:3])
