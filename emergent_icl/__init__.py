"""Where in-context learning comes from: data-distributional experiments in JAX.

A session, from a config to compared curves::

    import emergent_icl as icl

    bursty = icl.train(icl.get_config("gaussian"), "runs/bursty")
    config = icl.get_config("gaussian", {"data.sequences.p_bursty": 0.0})
    icl.train(config, "runs/iid")
    bursty.evaluate("fewshot_holdout")["fewshot_holdout"]["accuracy_closed"]  # with its interval
    shown = bursty.sequences("fewshot_holdout", n=4)
    bursty.predict(shown.examples, shown.labels)  # probabilities [4, labels]
    icl.compare([bursty, "runs/iid"]).save("curves.pdf")

Training resumes where it stopped and changes no global state. Each registry maps names to entries;
`REGISTRY.register(name)` adds one, and `declare` adds an option (docs/extending.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emergent_icl.config.check import ConfigError as ConfigError
    from emergent_icl.config.options import declare as declare
    from emergent_icl.config.registry import DATA_SOURCES as DATA_SOURCES
    from emergent_icl.config.registry import ENCODERS as ENCODERS
    from emergent_icl.config.registry import EVALUATION_MODES as EVALUATION_MODES
    from emergent_icl.config.registry import FEEDERS as FEEDERS
    from emergent_icl.config.registry import SCHEDULES as SCHEDULES
    from emergent_icl.config.registry import SEQUENCE_MODELS as SEQUENCE_MODELS
    from emergent_icl.config.registry import SEQUENCE_TYPES as SEQUENCE_TYPES
    from emergent_icl.config.rules import Option as Option
    from emergent_icl.plots.comparison import Comparison as Comparison
    from emergent_icl.plots.comparison import compare as compare
    from emergent_icl.presets import get_config as get_config
    from emergent_icl.runs.open import Run as Run
    from emergent_icl.runs.open import load_replicas as load_replicas
    from emergent_icl.runs.open import load_run as load_run
    from emergent_icl.runs.session import train as train
    from emergent_icl.runs.session import train_replicas as train_replicas
    from emergent_icl.runs.workdir import WorkdirError as WorkdirError

__version__ = "0.1.0"
# Where the public names are defined.
_HOMES = {
    "presets": ("get_config",),
    "runs.session": ("train", "train_replicas"),
    "runs.open": ("Run", "load_run", "load_replicas"),
    "plots.comparison": ("Comparison", "compare"),
    "runs.workdir": ("WorkdirError",),
    "config.check": ("ConfigError",),
    "config.rules": ("Option",),
    "config.options": ("declare",),
    "config.registry": (
        "DATA_SOURCES", "SEQUENCE_TYPES", "EVALUATION_MODES", "ENCODERS", "SEQUENCE_MODELS",
        "SCHEDULES", "FEEDERS",
    ),
}  # fmt: skip
__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: importing the package alone imports no JAX."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    importlib.import_module(f"{__name__}.runs.check")  # Fills the registries.
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
