"""Registries of named choices, which users can extend.

They are defined here and filled when other packages are imported, so that options can refer to
their entries.
"""

import difflib
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(ChainMap[str, T]):
    """A mapping from names to entries; for an unknown name, KeyError suggests the nearest.

    Decorators add entries, from inside or outside this package::

        @SEQUENCE_TYPES.register("my_type")
        def my_type(...): ...
    """

    def __init__(self, kind: str, *bases: "Registry[T]", **facts: Any) -> None:
        """Creates an empty registry; `kind` names its entries in error messages.

        It includes the entries of `bases`. `facts` are default properties of entries.
        """
        super().__init__({}, *bases)
        self.kind, self._defaults = kind, facts
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """A decorator that adds an entry with `facts` that differ from the defaults.

        Raises ValueError if the name is registered, or TypeError for unknown facts.
        """
        unknown = sorted(facts.keys() - self._defaults.keys())
        if unknown:
            raise TypeError(f"{self.kind} '{name}': unknown facts {', '.join(unknown)}")

        def add(entry: T) -> T:
            if name in self:
                raise ValueError(f"{self.kind} '{name}' is already registered")
            self[name], self._facts[name] = entry, facts
            return entry

        return add

    def about(self, name: str) -> SimpleNamespace:
        """The facts about an entry; the defaults for unknown names."""
        return SimpleNamespace(**(self._defaults | self._facts.get(name, {})))

    def __repr__(self) -> str:
        return f"<{self.kind}s: {', '.join(self)}>"

    def __missing__(self, key: str) -> T:
        raise KeyError(unknown_name(self.kind, key, self))


def no_problems(*_: Any) -> tuple[str, ...]:
    """No problems, for entries that are always valid."""
    return ()


# data/sources: DataSource.
DATA_SOURCES: Registry = Registry("data source")
# data/sequences: (ClassSpace, SequenceOptions) -> SequenceType.
SEQUENCE_TYPES: Registry = Registry("sequence type")
# Includes all sequence types; modes registered only here cannot be trained on.
EVALUATION_MODES: Registry = Registry("evaluation mode", SEQUENCE_TYPES)
# data/feed.py: (FeedSpec, first step) -> iterator of batches.
FEEDERS: Registry = Registry("feeder")
# models/encoders.py: (config.model, mean_over_devices) -> Encoder.
#   reads: supported kinds of examples; see SourceShape.
#   has_convolutions: slower in a loop on CPU; assumed of unknown encoders.
#   is_normalized: learns from thin strokes on a background of ones.
#   problems: (config.model, SourceShape) -> why such examples cannot be encoded.
ENCODERS: Registry = Registry(
    "encoder", reads=("image", "vector", "integer"), has_convolutions=True, is_normalized=False,
    problems=no_problems,
)  # fmt: skip
# models/transformer.py, recurrent.py: (config.model) -> SequenceModel.
#   problems: (config.model, width of a token) -> problems with such a model.
SEQUENCE_MODELS: Registry = Registry("sequence model", problems=no_problems)
# training/optimizers.py: (update number, Hyper, number of updates) -> learning rate.
#   reads_num_steps: rates depend on the number of steps, so runs cannot be extended.
#   needs_warmup: without warm-up, the rate decreases from the first step.
SCHEDULES: Registry = Registry("schedule", reads_num_steps=True, needs_warmup=False)
# evaluation/metrics.py: (Predictions) -> a number for each query [B].
#   title: in tables; by default, its name.
#   is_proportion: of queries, with values 0 and 1; otherwise a real number.
#   answers_among: of an accuracy, the labels among which it chooses: 'all' or 'valid'.
#   less_is_better: of a loss, which a search of settings minimizes.
METRICS: Registry = Registry(
    "metric", title="", is_proportion=True, answers_among="", less_is_better=False
)
# runs/loggers.py: (Opening) -> an object with write(step, {replica: metrics}) and close(failed).
#   package: required package, with an optional extra of the same name; '' for none.
#   is_essential: failure ends the run; otherwise it is reported once, and the logger is disabled.
LOGGERS: Registry = Registry("logger", package="", is_essential=False)


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """The message for an unknown name, with allowed names and the nearest one."""
    allowed = sorted(allowed)
    hint = nearest_name(name, allowed)
    return f"{kind} '{name}' is unknown (allowed: {', '.join(allowed)}){hint}"


def nearest_name(name: object, allowed: Iterable[str]) -> str:
    """'; did you mean ...?' if a name resembles an allowed one, else ''."""
    is_text = isinstance(name, str)
    return _did_you_mean(difflib.get_close_matches(name, list(allowed), n=1) if is_text else [])


def _did_you_mean(names: Sequence[str]) -> str:
    if not names:
        return ""
    *others, last = map(repr, names)
    listed = f"{', '.join(others)}{',' * (len(others) > 1)} or {last}" if others else last
    return f"; did you mean {listed}?"


def nearest_options(path: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with up to three similar options, else ''.

    Options of the same name in other sections come first, those with the most similar path ahead.
    """
    names = {option: option.rpartition(".")[2] for option in known}
    name = path.rpartition(".")[2]
    namesakes = [option for option in names if names[option] == name]
    similar = difflib.get_close_matches(name, names.values(), n=3, cutoff=0.75)
    found = [
        *difflib.get_close_matches(path, namesakes, n=3, cutoff=0),
        *difflib.get_close_matches(path, names, n=3, cutoff=0.8),
        *(option for option in names if names[option] in similar),
    ]
    return _did_you_mean(list(dict.fromkeys(found))[:3])
