"""Figures of sweeps: each finding's curves as the paper has them, and all findings at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from emergent_icl.plots import style, sweep_map
from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Json, Look
from emergent_icl.sweeps.measures import is_share

# Inches; and panels in a row.
PANEL_WIDTH, PANEL_HEIGHT, MOST_BESIDE = 5.0, 3.3, 3
SMALL_WIDTH, SMALL_HEIGHT, SMALL_COLUMNS = 4.1, 2.9, 3
# Points.
TITLE, LABEL, SMALL_PRINT = 13, 8.5, 7.5
# Inches from a label at the end of a line to the next, and where labels begin, in widths of the
# axes.
LABEL_LINE, LABELS_AT = 1.3 * LABEL / style.POINTS_PER_INCH, 1.045
# Letters of a label, and of a title in an inch.
LONGEST_LABEL, TITLE_LETTERS = 26, 7.5
# An axis in [0, 1], with room for lines along its ends.
SHARE_LIMITS = (-0.03, 1.03)
# Half of what keeps the points of two measures apart, as a share of the axis.
APART = 0.008


class EndLabel(NamedTuple):
    """A text right of the axes for the line that ends at (x, y), in the axes' data."""

    text: str
    color: str
    x: float
    y: float


def save(figure: Figure, path_stem: Path) -> None:
    """Writes STEM.png and STEM.svg, whose folder is made; equal figures are equal bytes."""
    for suffix in (".png", ".svg"):
        style.save(figure, Path(f"{path_stem}{suffix}"))


@style.in_our_style
def finding_figure(name: str, sweep: Json, verdict: Json | None, context: str = "") -> Figure:
    """A sweep's measures over training.

    A panel a measure, a line a condition: the mean over seeds, its 95 % band where at least two
    runs have the step, and chance. A run that diverged is a thin line of its own that ends in a
    cross; conditions without runs are named below.

    Sweep and verdict are their parts of results.json; the context (`sweep_data.context_text`)
    stands in the small print. A sweep over two options is a map: a cell for each condition.
    """
    if data.is_map(sweep):
        return _map_figure(name, sweep, verdict, context)
    measures, conditions = sweep["measures"], data.in_order(sweep["conditions"])
    # Every label must find its place beside the axes.
    most = len(conditions) + max(len(data.constants(conditions, one)) for one in measures)
    height = max(PANEL_HEIGHT, (most + 2) * LABEL_LINE)
    columns = len(measures) if len(measures) <= MOST_BESIDE else -(-len(measures) // 2)
    figure, panels = _panels(len(measures), columns, PANEL_WIDTH, height, 1.1)
    looks = data.looks(conditions)
    ends = []
    for axes, measure in zip(panels, measures, strict=False):
        _set_up(axes, measure)
        axes.set_title(data.look_of(measure).long, fontsize=9.5, loc="left")
        axes.set_ylabel("accuracy" if is_share(measure) else "")
        labels: list[EndLabel] = []
        for condition, one in conditions.items():
            labels += _draw_curve(axes, one, measure, looks[condition], condition)
        _over_steps(axes, sweep)
        ends.append(labels + _draw_levels(axes, data.levels(conditions, measure, looks)))
    _headline(figure, data.title_of(name, sweep), *data.verdict_text(verdict))
    _small_print(figure, _finding_notes(sweep, context))
    _label_ends(figure, panels, ends)
    return figure


def _map_figure(name: str, sweep: Json, verdict: Json | None, context: str) -> Figure:
    measures = sweep["measures"]
    columns = min(len(measures), MOST_BESIDE)
    figure, panels = _panels(len(measures), columns, PANEL_WIDTH, PANEL_HEIGHT, 1.1)
    for axes, measure in zip(panels, measures, strict=False):
        sweep_map.draw(figure, axes, sweep, measure)
        axes.set_title(data.look_of(measure).long, fontsize=9.5, loc="left")
    _headline(figure, data.title_of(name, sweep), *(data.verdict_text(verdict) if verdict else ()))
    parts = (context, data.count_text(sweep), "Cells: means over seeds; hatched: no numbers")
    _small_print(figure, " ".join(f"{part}." for part in parts if part))
    return figure


def _finding_notes(sweep: Json, context: str) -> str:
    """What a figure of a finding says below."""
    conditions = sweep["conditions"]
    empty = [name for name, one in conditions.items() if not one["runs"]]
    parts = [context, data.count_text(sweep)]
    if len(empty) < len(conditions):
        by = f", by {sweep['axis']}" if sweep["axis"] else ""
        parts.append(f"Lines: means over seeds{by}; bands: their 95 % intervals")
        known = any(data.constants(conditions, measure) for measure in sweep["measures"])
        parts.append("Constant: always giving the most frequent answer" if known else "")
        parts.append(f"No runs of {', '.join(empty)}" if empty else "")
        if any(map(data.has_diverged, data.runs_of(sweep))):
            parts.append("Crosses: runs that diverged, in no mean")
    return " ".join(f"{part}." for part in parts if part)


@style.in_our_style
def summary_figure(results: Json) -> Figure:
    """All findings of results.json at a glance.

    A panel a finding: its measures at the end of training against its conditions, a point a run;
    over training where the sweep's 'plot' is 'curves', or where there is but one condition; a map
    of the first measure where there are two axes.
    """
    sweeps, verdicts = results["sweeps"], results["verdicts"]
    columns = min(SMALL_COLUMNS, len(sweeps))
    figure, panels = _panels(len(sweeps), columns, SMALL_WIDTH, SMALL_HEIGHT, 0.8)
    ends = []
    for axes, (name, sweep) in zip(panels, sweeps.items(), strict=False):
        if data.is_map(sweep):
            sweep_map.draw(figure, axes, sweep, sweep["measures"][0])
            ends.append([])
        else:
            ends.append(_draw_summary(axes, sweep))
        text, color = data.verdict_text(verdicts.get(name))
        axes.set_title(short(data.title_of(name, sweep)), fontsize=10.5, loc="left", pad=19)
        axes.annotate(
            text, (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points",
            color=color, fontsize=9, weight="bold",
        )  # fmt: skip
    _headline(figure, data.headline(results))
    _small_print(
        figure,
        f"{data.context_text(results)}, {data.replicates_text(results)}. At the end of "
        "training, or over training where steps are the axis. Points: single runs; lines and "
        "bars: means over seeds. ICL: in-context, accuracy on held-out classes; IWL: in-weights, "
        "accuracy without support. Dotted: chance in context, and always giving the most "
        f"frequent answer if that is above chance (constant). {data.registrations_text(results)}.",
    )
    _label_ends(figure, panels, ends)
    return figure


def _draw_summary(axes: Axes, sweep: Json) -> list[EndLabel]:
    """A sweep at a glance: what the runs end with, or their curves; and chance in context."""
    is_over_training = sweep.get("plot") == "curves" or len(sweep["conditions"]) == 1
    ends = (_draw_over_training if is_over_training else _draw_ends)(axes, sweep)
    if "icl" in sweep["measures"]:
        _draw_levels(axes, data.levels(sweep["conditions"], "icl", {}))
    return ends


def _draw_curve(axes: Axes, condition: Json, measure: str, look: Look, text: str) -> list[EndLabel]:
    """Mean, band and diverged runs of a condition; the label of its end, if there is one."""
    runs = list(condition["runs"].values())
    for run in filter(data.has_diverged, runs):
        if points := list(data.points(run, measure).items()):
            axes.plot(*zip(*points, strict=True), color=look.color, linewidth=0.7, alpha=0.7)
            axes.plot(*points[-1], "x", color=look.color, markersize=6, mew=1.6)
    band = data.band(runs, measure)
    if not band.steps:
        return []
    axes.fill_between(band.steps, band.low, band.high, color=look.color, alpha=0.18, linewidth=0)
    axes.plot(
        band.steps, band.mean, look.dashes, color=look.color, linewidth=1.7,
        marker=look.marker, markersize=4, markevery=max(len(band.steps) // 6, 1),
    )  # fmt: skip
    return [EndLabel(text, look.color, band.steps[-1], band.mean[-1])]


def _draw_levels(axes: Axes, levels: Sequence[tuple[str, str, float]]) -> list[EndLabel]:
    """A dotted line for each level of `sweep_data.levels`."""
    for _, color, level in levels:
        axes.axhline(level, color=color, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    return [EndLabel(text, color, axes.get_xlim()[1], level) for text, color, level in levels]


def _draw_over_training(axes: Axes, sweep: Json) -> list[EndLabel]:
    """Measures by color, conditions by dashes."""
    labels, measures = [], sweep["measures"]
    _set_up(axes, *measures)
    for index, (name, condition) in enumerate(data.in_order(sweep["conditions"]).items()):
        for measure in measures:
            look = data.look_of(measure)
            look = look._replace(dashes=data.DASHES[index % len(data.DASHES)])
            is_alone = len(sweep["conditions"]) == 1
            text = look.short if is_alone else f"{look.short}, {name}"
            labels += _draw_curve(axes, condition, measure, look, text)
    _over_steps(axes, sweep)
    return labels


def _draw_ends(axes: Axes, sweep: Json) -> list[EndLabel]:
    """What the runs end with: a point a run, joined means where the conditions have an order."""
    conditions, measures = data.in_order(sweep["conditions"]), sweep["measures"]
    places, how = data.axis_places(conditions)
    _set_up(axes, *measures)
    labels = []
    for index, name in enumerate(measures):
        look, shift = data.look_of(name), APART * (2 * index - len(measures) + 1)
        finals = [data.finals(one, name) for one in conditions.values()]
        ends = list(zip(places, finals, strict=True))
        dots = [(place + shift, value) for place, values in ends for value in values]
        means = [(place, float(np.mean(values))) for place, values in ends if values]
        if not means:
            continue
        axes.plot(
            *zip(*dots, strict=True), look.marker, color=look.color, markersize=4, alpha=0.45,
            markeredgewidth=0,
        )  # fmt: skip
        if data.is_ordered(conditions):
            axes.plot(*zip(*means, strict=True), look.dashes, color=look.color, linewidth=1.6)
        else:
            half = 0.1 / max(len(conditions) - 1, 1)
            for x, mean in means:
                axes.hlines(mean, x - half, x + half, color=look.color, linewidth=2)
        labels.append(EndLabel(look.short, look.color, *means[-1]))
        place_of = dict(zip(conditions, places, strict=True))
        constants = data.constants(conditions, name).items()
        spots = [(place_of[one], level) for one, level in constants]
        if spots:
            axes.plot(*zip(*spots, strict=True), "_:", color=look.color, linewidth=1, alpha=0.8)
            labels.append(EndLabel(f"{look.short}, constant", look.color, *spots[-1]))
    texts = [_tick_text(name, one["value"]) for name, one in conditions.items()]
    is_long = max(map(len, texts), default=0) * len(texts) > 44
    axes.set_xticks(places, texts, fontsize=8, rotation=20 if is_long else 0)
    axes.set(xlim=(-0.09, 1.09))
    axes.set_xlabel(sweep["axis"] + (" (log scale)" if how == "log" else ""), fontsize=8.5)
    if not labels:
        _say_nothing(axes, sweep)
    return labels


def _tick_text(name: str, value: float | None) -> str:
    """'p=0.5' at .5 is '0.5'; any other condition bears its name, as ranks tell nobody anything."""
    text = "" if value is None else f"{value:g}"
    return text if text and name.rsplit("=", 1)[-1] == text else short(name)


def short(text: str, longest: int = LONGEST_LABEL) -> str:
    """Without its middle where it is too long: names often differ in their ends."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[: longest - half]}…{text[-half:]}"
    # A dollar would begin a formula.
    return text.replace("$", r"\$")


def _label_ends(figure: Figure, panels: Sequence[Axes], ends: Sequence[list[EndLabel]]) -> None:
    """Labels right of each panel, pushed apart, each with a thin stroke to its line."""
    # Only a figure that is laid out knows how high its axes are.
    figure.draw_without_rendering()
    for axes, labels in zip(panels, ends, strict=False):
        if not labels:
            continue
        height = axes.get_window_extent().height / figure.dpi
        gap = min(LABEL_LINE / height, 1 / len(labels))
        to_axes = axes.transData + axes.transAxes.inverted()
        points = to_axes.transform([(label.x, label.y) for label in labels])
        for label, point, place in zip(labels, points, spread(points[:, 1], gap), strict=True):
            axes.plot(
                (point[0], LABELS_AT), (point[1], place), color=label.color, linewidth=0.6,
                alpha=0.7, transform=axes.transAxes, clip_on=False,
            )  # fmt: skip
            axes.text(
                LABELS_AT + 0.01, place, short(label.text), color=style.readable(label.color),
                fontsize=LABEL * min(1, gap * height / LABEL_LINE), va="center",
                transform=axes.transAxes,
            )  # fmt: skip


def spread(wanted: Sequence[float] | np.ndarray, gap: float) -> list[float]:
    """Places in [gap / 2, 1 - gap / 2], at least `gap` apart, in the order of those wanted.

    At least one is wanted; the gap is at most 1 / their number.
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    free = np.asarray(wanted)[order] - steps
    # Half way between labels that were only pushed up, and those that were only pushed down.
    free = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    places = np.empty(len(order))
    places[order] = free.clip(gap / 2, max(1 - gap / 2 - steps[-1], gap / 2)) + steps
    return places.tolist()


def _set_up(axes: Axes, *measures: str) -> None:
    style.tidy(axes)
    axes.tick_params(labelsize=8.5)
    if all(map(is_share, measures)):
        axes.set_ylim(SHARE_LIMITS)


def _over_steps(axes: Axes, sweep: Json) -> None:
    axes.set_xlabel("training step", fontsize=8.5)
    if not axes.lines:
        axes.set_xticks([])
        _say_nothing(axes, sweep)
        return
    # Set once, so that labels can be placed by the limits.
    axes.set_xlim(0, axes.dataLim.x1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _headline(figure: Figure, title: str, verdict: str = "", color: str = style.INK) -> None:
    """A title, and beside it a verdict with its color."""
    longest = int(figure.get_figwidth() * TITLE_LETTERS) - len(verdict)
    shown = figure.suptitle(short(title, longest), x=0.01, ha="left", fontsize=TITLE, weight="bold")
    beside = figure.axes[0].annotate(
        verdict, (1, 0.5), xytext=(14, 0), xycoords=shown, textcoords="offset points", va="center",
        color=color, fontsize=TITLE - 1, weight="bold", annotation_clip=False,
    )  # fmt: skip
    beside.set_in_layout(False)


def _say_nothing(axes: Axes, sweep: Json) -> None:
    """Why there is no line."""
    axes.text(
        0.5, 0.6, "not measured" if data.runs_of(sweep) else "no runs", transform=axes.transAxes,
        ha="center", color=style.SOFT,
    )  # fmt: skip


def _small_print(figure: Figure, text: str) -> None:
    lines = style.wrap(text, figure.get_figwidth() - 0.3, SMALL_PRINT)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL_PRINT, color=style.SOFT)


def _panels(
    count: int, columns: int, width: float, height: float, around: float
) -> tuple[Figure, list[Axes]]:
    """A figure of panels of that many inches, at least one; what is over is empty."""
    columns = max(columns, 1)
    rows = max(-(-count // columns), 1)
    figure = style.new_figure(width * columns, height * rows + around)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.09)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[max(count, 1) :]:
        axes.set_axis_off()
    return figure, panels
