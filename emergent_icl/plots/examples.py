"""One example in axes of its own."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from emergent_icl.plots.sequences import vector_square


def draw_example(axes: Axes, example: np.ndarray) -> None:
    """Draws an image [H, W, 1], a vector [D] or an integer [], without ticks."""
    axes.set(xticks=[], yticks=[])
    if example.ndim == 3:
        # Noise reaches beyond 0 and 1.
        low, high = min(0.0, float(example.min())), max(1.0, float(example.max()))
        axes.imshow(example[..., 0], cmap="gray", vmin=low, vmax=high)
    elif example.ndim == 1:
        reach = max(float(np.abs(example).max()), 1e-6)
        axes.imshow(vector_square(example), cmap="RdBu_r", vmin=-reach, vmax=reach)
    else:
        axes.text(0.5, 0.5, str(example), ha="center", va="center", transform=axes.transAxes)
        axes.set_aspect("equal")
