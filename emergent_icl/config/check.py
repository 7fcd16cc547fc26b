"""Checks of single options; other packages check combinations."""

from collections.abc import Iterator
from typing import Any

import ml_collections

from emergent_icl.config.configs import OPTIMIZER_OPTIONS, flatten, place, unknown_option
from emergent_icl.config.options import EXTENSIONS, known
from emergent_icl.config.registry import nearest_name

# Seeds and counts have at most 32 bits.
LARGEST = 2**32 - 1
_MISSING = object()


class ConfigError(ValueError):
    """An invalid config; the message lists every problem, `problems` each of them as a string."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"The config has {count}:", *problems]))


# Options that select an entry of a registry, whose own options are in a section of its name.
_SELECTORS = ("data.source", "data.sequences.type", "model.encoder", "model.sequence_model")


def option_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    """Yields a message for each option that is missing, out of range, mistyped, or unknown."""
    options, flat = known(), flatten(config.to_dict())
    # Options of an extension are required only where it is used.
    chosen = [(path.split(".")[0], flat.get(path)) for path in _SELECTORS]
    modes = flat.get("evaluation.modes")
    chosen += [("data", mode) for mode in (modes if isinstance(modes, tuple) else ())]
    used = tuple(f"{section}.{name}." for section, name in chosen)
    for path, option in options.items():
        section, name = place(config, path)
        value, rule = (section or {}).get(name, _MISSING), option.rule
        if value is _MISSING:
            if path not in EXTENSIONS or path.startswith(used):
                yield f"{path} is missing"
        elif isinstance(value, int) and abs(value) > LARGEST:
            yield f"{path} = {value!r} must be {rule.text}, and at most {LARGEST}"
        elif not rule.allows(value):
            yield f"{path} = {value!r} must be {rule.text}{_hint(value, rule.names)}"
    for path in flat:
        if path not in options and not path.startswith(OPTIMIZER_OPTIONS):
            yield unknown_option(path, options)


def _hint(value: Any, names: tuple[str, ...]) -> str:
    """The nearest allowed names."""
    given = value if isinstance(value, tuple) else (value,)
    return "".join(nearest_name(name, names) for name in given if name not in names)
