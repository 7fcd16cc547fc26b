"""Figures."""

import contextlib
import os


def _import_matplotlib() -> None:
    """Imports Matplotlib with any MPLBACKEND, even an invalid one: figures need no backend."""
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):  # Only pyplot needs a valid one.
            matplotlib.rcParams["backend"] = backend


_import_matplotlib()
