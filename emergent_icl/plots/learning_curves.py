"""The paper's two curves, and the loss, over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from emergent_icl.evaluation.evaluate import ICL, IWL
from emergent_icl.plots import style

Records = Sequence[Mapping[str, Any]]

# Told apart in grey, too, by their lightness and dashes.
DASHES = ("-", "--", "-.", ":")
REPLICAS_A_ROW = 6
ICL_COLOUR, IWL_COLOUR, LOSS_COLOUR, GREY = style.BLUE, style.VERMILLION, style.GREEN, style.GREY


def draw_learning_curves(records: Records, title: str, chance: float | None, path: Path) -> None:
    """Draws ICL and IWL accuracy, and the training loss, over steps as a PNG.

    Args:
      records: lines of metrics.jsonl; those of several replicas are told apart by colour.
      title: of the figure.
      chance: in-context accuracy of guessing, None to leave it out.
      path: of the PNG; its folder is made.
    """
    replicas = list(dict.fromkeys(record.get("replica", "") for record in records))
    if any(replicas):
        _draw_replicas(records, replicas, title, chance, path)
        return
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


def _draw_replicas(
    records: Records, names: Sequence[str], title: str, chance: float | None, path: Path
) -> None:
    """A panel for each of the three curves, a line for each replica."""
    rows = -(-len(names) // REPLICAS_A_ROW)
    figure = style.new_figure(13, 4.2 + 0.2 * rows)
    panels = figure.subplots(1, 3)
    kinds = (
        ("in-context (fewshot_holdout)", f"eval/{ICL[0]}/{ICL[1]}", "accuracy on queries"),
        ("in-weights (no_support_zipfian)", f"eval/{IWL[0]}/{IWL[1]}", "accuracy on queries"),
        ("training loss", "train/loss", "cross-entropy on the query (nats)"),
    )
    for axes, (heading, key, what) in zip(panels, kinds, strict=True):
        for index, name in enumerate(names):
            own = [record for record in records if record.get("replica", "") == name]
            # In order from dark to light, and told apart by dashes where there are many.
            colour = colormaps["viridis"](0.9 * index / max(len(names) - 1, 1))
            _curve(axes, own, key, name, colour, DASHES[index % len(DASHES)])
        axes.set(title=heading, ylabel=what, xlabel="training step")
        style.tidy(axes)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if key.startswith("eval/"):
            axes.set_ylim(-0.03, 1.03)
        else:
            axes.set_ylim(bottom=0)
    if chance is not None:
        panels[0].axhline(chance, color=GREY, linewidth=0.8, linestyle=":")
    handles, labels = panels[-1].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, frameon=False, fontsize=9, loc="outside lower center",
            ncols=min(len(names), REPLICAS_A_ROW),
        )  # fmt: skip
    figure.suptitle(title)
    style.save(figure, path)


def _curve(axes: Axes, records: Records, key: str, label: str, colour: Any, dashes: str) -> None:
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
