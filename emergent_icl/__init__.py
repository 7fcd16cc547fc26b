"""Where in-context learning comes from: data-distributional experiments in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emergent_icl.runs.open import Run, load_run

__version__ = "0.1.0"
__all__ = ["Run", "load_run"]


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used: some modules need no JAX."""
    if name in __all__:
        from emergent_icl.runs import open as runs

        return getattr(runs, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
