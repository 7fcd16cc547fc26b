"""Figures of sweeps: the curves of one finding, and a summary of all findings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from emergent_icl.evaluation.measures import is_share
from emergent_icl.plots import style, sweep_map
from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Json, Look

# Panels of a finding and of the summary: inches, and panels per row.
PANEL_WIDTH, PANEL_HEIGHT, MAX_COLUMNS = 5.0, 3.3, 3
SMALL_WIDTH, SMALL_HEIGHT, SMALL_COLUMNS = 4.1, 2.9, 3
# Points.
TITLE, LABEL, SMALL_PRINT = 13, 8.5, 7.5
# Smallest distance between end labels (inches), and their position (axes widths).
LABEL_LINE, LABELS_AT = 1.3 * LABEL / style.POINTS_PER_INCH, 1.045
# Letters per label, and per inch of a title.
LONGEST_LABEL, TITLE_LETTERS = 26, 7.5
# Room for lines at 0 and 1.
SHARE_LIMITS = (-0.03, 1.03)
# Half the horizontal offset between the points of two measures, as a fraction of the axis.
APART = 0.008


class EndLabel(NamedTuple):
    """A label right of the axes for a line that ends at (x, y) in data coordinates."""

    text: str
    color: str
    x: float
    y: float


def save(figure: Figure, path_stem: Path) -> None:
    """Saves STEM.png and STEM.svg reproducibly; creates the folder."""
    for suffix in (".png", ".svg"):
        style.save(figure, Path(f"{path_stem}{suffix}"))


@style.in_our_style
def finding_figure(name: str, sweep: Json, verdict: Json | None, context: str = "") -> Figure:
    """A sweep's measures over training: one panel per measure, one line per condition.

    Lines are means over seeds with 95% bands. A diverged run is a thin line that ends in a cross.
    A sweep over two options is a heat map of final values.

    Sweep and verdict are parts of results.json; the context (`sweep_data.context_text`) is
    repeated in the small print.
    """
    measures, conditions = sweep["measures"], data.in_order(sweep["conditions"])
    is_map, looks = data.is_map(sweep), data.looks(conditions)
    constants = {one: data.constants(conditions, one) for one in measures}
    # The labels of all lines must fit beside the axes.
    num_labels = len(conditions) + max(map(len, constants.values()))
    height = PANEL_HEIGHT if is_map else max(PANEL_HEIGHT, (num_labels + 2) * LABEL_LINE)
    count = len(measures)
    columns = count if count <= MAX_COLUMNS else -(-count // 2)
    figure, panels = _panels(count, columns, PANEL_WIDTH, height, 1.1)
    ends = []
    for axes, measure in zip(panels, measures, strict=False):
        axes.set_title(data.look_of(measure).long, fontsize=9.5, loc="left")
        if is_map:
            sweep_map.draw(figure, axes, sweep, measure)
            continue
        _set_up(axes, measure)
        axes.set_ylabel(data.axis_label(measure))
        labels: list[EndLabel] = []
        for condition, one in conditions.items():
            labels += _draw_curve(axes, one, measure, looks[condition], condition)
        _over_steps(axes, sweep)
        ends.append(labels + _draw_levels(axes, data.levels(conditions, measure, looks)))
    # A map need not have a claim.
    said = data.verdict_text(verdict) if verdict or not is_map else ()
    _headline(figure, data.title_of(name, sweep), *said)
    notes = [context, data.count_text(sweep), *_notes(sweep)]
    _small_print(figure, " ".join(f"{note}." for note in notes if note))
    _label_ends(figure, panels, ends)
    return figure


def _notes(sweep: Json) -> list[str]:
    """Explanations in the small print of a finding."""
    if data.is_map(sweep):
        return ["Cells: means over seeds; hatched: no data"]
    conditions = sweep["conditions"]
    empty = [name for name, one in conditions.items() if not one["runs"]]
    if len(empty) == len(conditions):
        return []
    by = f", by {sweep['axis']}" if sweep["axis"] else ""
    notes = {
        f"Lines: means over seeds{by}; bands: 95% intervals": True,
        "Constant: always predicting the most frequent label": data.has_constants(sweep),
        f"No runs for {', '.join(empty)}": bool(empty),
        "Crosses: diverged runs (excluded from means)": any(
            map(data.has_diverged, data.runs_of(sweep))
        ),
    }
    return [note for note, is_shown in notes.items() if is_shown]


@style.in_our_style
def summary_figure(results: Json) -> Figure:
    """A panel for each finding of results.json.

    Shows final values by condition, one point per run. Shows curves over training if the sweep's
    'plot' is 'curves' or it has one condition, and a map of the first measure if it has two axes.
    Beside measures in [0, 1], such as accuracies, others are not shown, except in maps.
    """
    sweeps, verdicts = results["sweeps"], results["verdicts"]
    columns = min(SMALL_COLUMNS, len(sweeps))
    figure, panels = _panels(len(sweeps), columns, SMALL_WIDTH, SMALL_HEIGHT, 0.8)
    bands = ", bands: 95% intervals" * any(map(data.is_over_training, sweeps.values()))
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
        f"{data.context_text(results)}, {data.replicates_text(results)}. Values at the end of "
        "training, or over training if the x-axis shows steps. Points: individual runs; lines and "
        f"bars: means over seeds{bands}. ICL: in-context accuracy on held-out classes; IWL: "
        "in-weights accuracy without support. Fine dots: chance in context, and the accuracy of "
        "always predicting the most frequent label if above chance (constant). "
        f"{data.registrations_text(results)}.",
    )
    _label_ends(figure, panels, ends)
    return figure


def _draw_summary(axes: Axes, sweep: Json) -> list[EndLabel]:
    """Final values or curves of a sweep, and chance in context.

    Only measures in [0, 1], if there are any: others have other units.
    """
    measures = list(filter(is_share, sweep["measures"])) or sweep["measures"]
    draw = _draw_over_training if data.is_over_training(sweep) else _draw_ends
    ends = draw(axes, sweep, measures)
    if "icl" in measures:
        _draw_levels(axes, data.levels(sweep["conditions"], "icl", {}))
    return ends


def _draw_curve(axes: Axes, condition: Json, measure: str, look: Look, text: str) -> list[EndLabel]:
    """Mean, band, and diverged runs of a condition; returns its end label, if any."""
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
    """Dotted lines of `sweep_data.levels`."""
    for _, color, level in levels:
        axes.axhline(level, color=color, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    return [EndLabel(text, color, axes.get_xlim()[1], level) for text, color, level in levels]


def _draw_over_training(axes: Axes, sweep: Json, measures: Sequence[str]) -> list[EndLabel]:
    """Measures by color, conditions by dashes."""
    labels = []
    _set_up(axes, *measures)
    looks = data.measure_looks(measures)
    for index, (name, condition) in enumerate(data.in_order(sweep["conditions"]).items()):
        for measure in measures:
            # Without markers: points are individual runs.
            dashes = data.DASHES[index % len(data.DASHES)]
            look = looks[measure]._replace(dashes=dashes, marker="")
            is_alone = len(sweep["conditions"]) == 1
            text = look.short if is_alone else f"{look.short}, {name}"
            labels += _draw_curve(axes, condition, measure, look, text)
    _over_steps(axes, sweep)
    return labels


def _draw_ends(axes: Axes, sweep: Json, measures: Sequence[str]) -> list[EndLabel]:
    """Final values: one point per run, means joined if the conditions are ordered."""
    conditions = data.in_order(sweep["conditions"])
    places, how = data.axis_places(conditions)
    _set_up(axes, *measures)
    labels = []
    for index, (name, look) in enumerate(data.measure_looks(measures).items()):
        shift = APART * (2 * index - len(measures) + 1)
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
        constants = data.constants(conditions, name)
        if spots := [(place_of[one], level) for one, level in constants.items()]:
            axes.plot(*zip(*spots, strict=True), "_:", color=look.color, linewidth=1, alpha=0.8)
            labels.append(EndLabel(f"{look.short}, constant", look.color, *spots[-1]))
    texts = [_tick_text(name, one["value"]) for name, one in conditions.items()]
    is_long = max(map(len, texts), default=0) * len(texts) > 44
    axes.set_xticks(places, texts, fontsize=8, rotation=20 if is_long else 0)
    axes.set(xlim=(-0.09, 1.09))
    is_uneven = how == "in order" and data.is_ordered(conditions)
    note = " (not to scale)" if is_uneven else " (log scale)" if how == "log" else ""
    axes.set_xlabel(f"{sweep['axis']}{note}", fontsize=8.5)
    if not labels:
        _explain_absence(axes, sweep)
    return labels


def _tick_text(name: str, value: float | None) -> str:
    """'0.5' for 'p=0.5' with value 0.5; the name of any other condition."""
    text = "" if value is None else f"{value:g}"
    return text if text and name.rsplit("=", 1)[-1] == text else short(name)


def short(text: str, longest: int = LONGEST_LABEL) -> str:
    """Shortens text in the middle: names often differ at their ends."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[: longest - half]}…{text[-half:]}"
    return style.plain(text)


def _label_ends(figure: Figure, panels: Sequence[Axes], ends: Sequence[list[EndLabel]]) -> None:
    """Draws labels right of each panel without overlaps, connected to their lines."""
    # The height of axes is known after the layout.
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
    """Positions in [gap / 2, 1 - gap / 2] close to those wanted, in their order, `gap` apart.

    The gap must be at most 1 / len(wanted).
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    free = np.asarray(wanted)[order] - steps
    # The mean of pushing labels only up and only down.
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
        _explain_absence(axes, sweep)
        return
    # Labels depend on the limits.
    axes.set_xlim(0, axes.dataLim.x1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _headline(figure: Figure, title: str, verdict: str = "", color: str = style.INK) -> None:
    """Title, followed by a verdict in its color."""
    longest = int(figure.get_figwidth() * TITLE_LETTERS) - len(verdict)
    shown = figure.suptitle(short(title, longest), x=0.01, ha="left", fontsize=TITLE, weight="bold")
    beside = figure.axes[0].annotate(
        verdict, (1, 0.5), xytext=(14, 0), xycoords=shown, textcoords="offset points", va="center",
        color=color, fontsize=TITLE - 1, weight="bold", annotation_clip=False,
    )  # fmt: skip
    beside.set_in_layout(False)


def _explain_absence(axes: Axes, sweep: Json) -> None:
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
    """A figure with at least one panel (size in inches); surplus axes are hidden."""
    columns = max(columns, 1)
    rows = max(-(-count // columns), 1)
    figure = style.new_figure(width * columns, height * rows + around)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.09)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[max(count, 1) :]:
        axes.set_axis_off()
    return figure, panels
