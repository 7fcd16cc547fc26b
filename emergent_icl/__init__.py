"""Where in-context learning comes from: data-distributional experiments in JAX.

A session, from a config to compared curves::

    import emergent_icl as icl

    bursty = icl.train(icl.get_config("gaussian:tiny"), "runs/bursty")
    config = icl.get_config("gaussian:tiny", {"data.sequences.p_bursty": 0.0})
    icl.train(config, "runs/iid")
    bursty.evaluate("fewshot_holdout")["fewshot_holdout"]["accuracy_closed"]  # with its interval
    shown = bursty.sequences("fewshot_holdout", n=4)
    bursty.predict(shown.examples, shown.labels)  # probabilities [4, labels]
    icl.compare([bursty, "runs/iid"]).save("curves.pdf")

Training resumes where it stopped and changes no global state. Each registry maps names to entries;
`REGISTRY.register(name)` adds one, and `declare` adds an option (docs/extending.md).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emergent_icl.config.check import ConfigError
    from emergent_icl.config.options import declare
    from emergent_icl.config.registry import (
        DATA_SOURCES,
        ENCODERS,
        EVALUATION_MODES,
        FEEDERS,
        LOGGERS,
        METRICS,
        SCHEDULES,
        SEQUENCE_MODELS,
        SEQUENCE_TYPES,
    )
    from emergent_icl.config.rules import Option
    from emergent_icl.plots.comparison import Comparison, compare
    from emergent_icl.presets import get_config
    from emergent_icl.runs.open import Run, load_replicas, load_run
    from emergent_icl.runs.session import train, train_replicas
    from emergent_icl.runs.workdir import WorkdirError

__version__ = "0.2.0"
__all__ = [
    "DATA_SOURCES", "ENCODERS", "EVALUATION_MODES", "FEEDERS", "LOGGERS", "METRICS",
    "SCHEDULES", "SEQUENCE_MODELS", "SEQUENCE_TYPES", "Comparison", "ConfigError", "Option", "Run",
    "WorkdirError", "compare", "declare", "get_config", "load_replicas", "load_run", "train",
    "train_replicas",
]  # fmt: skip
_HOMES = (
    "config.registry", "config.check", "config.rules", "config.options", "runs.workdir",
    "runs.open", "runs.session", "presets", "plots.comparison",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: importing the package alone imports no JAX."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    importlib.import_module(f"{__name__}.runs.check")  # Fills the registries.
    homes = (importlib.import_module(f"{__name__}.{home}") for home in _HOMES)
    return getattr(next(home for home in homes if hasattr(home, name)), name)


def __dir__() -> list[str]:
    return sorted(__all__)
