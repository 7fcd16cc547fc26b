"""The paper's two curves, and the loss, over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from emergent_icl.evaluation import ICL, IWL
from emergent_icl.visualization import style

Records = Sequence[Mapping[str, Any]]

# Told apart in grey, too, by their lightness and dashes.
ICL_COLOUR, IWL_COLOUR, LOSS_COLOUR, GREY = style.BLUE, style.VERMILLION, style.GREEN, style.GREY


def draw_learning_curves(records: Records, title: str, chance: float | None, path: Path) -> None:
    """Draws ICL and IWL accuracy, and the training loss, over steps as a PNG.

    Args:
      records: lines of metrics.jsonl.
      title: of the figure.
      chance: in-context accuracy of guessing, None to leave it out.
      path: of the PNG; its folder is made.
    """
    figure = style.new_figure(10, 4.2)
    accuracy_axes, loss_axes = figure.subplots(1, 2)

    curves = (
        ("in-context (fewshot_holdout)", ICL, ICL_COLOUR, "-"),
        ("in-weights (no_support_zipfian)", IWL, IWL_COLOUR, "--"),
    )
    for label, (mode, metric), colour, dashes in curves:
        _curve(accuracy_axes, records, f"eval/{mode}/{metric}", label, colour, dashes)
    if chance is not None:
        accuracy_axes.axhline(chance, color=GREY, linewidth=0.8, linestyle=":")
        accuracy_axes.text(
            0.99, chance - 0.05, "chance, in context", color=GREY, fontsize=8, ha="right",
            transform=accuracy_axes.get_yaxis_transform(),
        )  # fmt: skip
    accuracy_axes.set(
        ylim=(-0.03, 1.03), ylabel="accuracy on queries", title="Where does it learn?"
    )

    _curve(loss_axes, records, "train/loss", "training loss", LOSS_COLOUR, "-")
    loss_axes.set(ylabel="cross-entropy on the query (nats)", title="Training loss")
    loss_axes.set_ylim(bottom=0)
    for axes in (accuracy_axes, loss_axes):
        axes.set_xlabel("training step")
        style.tidy(axes)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if accuracy_axes.get_legend_handles_labels()[0]:
        # Below the axes, where no curve can pass.
        accuracy_axes.legend(
            frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2
        )
    figure.suptitle(title)
    style.save(figure, path)


def _curve(axes: Axes, records: Records, key: str, label: str, colour: str, dashes: str) -> None:
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:
        steps, values = zip(*points, strict=True)
        few = len(points) < 40
        axes.plot(
            steps,
            values,
            dashes,
            color=colour,
            label=label,
            marker="o" if few else None,
            markersize=3,
        )
