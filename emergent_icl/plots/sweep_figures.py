"""Figures of sweeps: each finding's curves as the paper has them, and all findings at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator

from emergent_icl.plots import style
from emergent_icl.plots import sweep_curves as curves
from emergent_icl.plots.end_labels import LINE_HEIGHT, EndLabel, Ends, label_ends, short
from emergent_icl.plots.sweep_curves import Json, Look

# The measure whose chance the summary shows.
ICL = "icl"
# Inches; and panels in a row.
PANEL_WIDTH, PANEL_HEIGHT, MOST_BESIDE = 5.0, 3.3, 3
SMALL_WIDTH, SMALL_HEIGHT, SMALL_COLUMNS = 4.1, 2.9, 3
# Points.
SMALL_PRINT = 7.5
# Mean width of a bold letter over its size, rounded up.
TITLE_SIZE, BOLD_WIDTH = 13, 0.72
# An axis in [0, 1], with room for lines along its ends.
SHARE_LIMITS = (-0.03, 1.03)
# Conditions of an axis that lie nearer than this share of it would be crammed.
CRAMMED, SPARSE = 0.05, 0.09
# Half of what keeps the points of two measures apart, as a share of the axis.
APART = 0.008


def draw_finding(
    name: str, sweep: Json, verdict: Json | None, path_stem: Path, context: str = ""
) -> None:
    """Draws a sweep's measures over training, as STEM.png and STEM.svg.

    A panel a measure, a line a condition: the mean over seeds, its 95 % band where at least two
    runs have the step, and chance. A run that diverged is a thin line of its own that ends in a
    cross; conditions without runs are named below.

    Args:
      name: of the sweep, if it has no title.
      sweep: its part of results.json.
      verdict: its part of the verdicts, None if it has none.
      path_stem: of the files, without '.png'; their folder is made.
      context: what else is in the small print: see `context_text`.
    """
    _save(finding_figure(name, sweep, verdict, context), path_stem)


def draw_summary(results: Json, path_stem: Path) -> None:
    """Draws all findings as one figure, as STEM.png and STEM.svg.

    A panel a finding: its measures at the end of training against its conditions, a point a run;
    over training where the sweep's 'plot' is 'curves', or where there is but one condition.

    Args:
      results: results.json.
      path_stem: of the files, without '.png'; their folder is made.
    """
    _save(summary_figure(results), path_stem)


def context_text(results: Json) -> str:
    """What figures say of where their numbers come from."""
    preset = f", preset '{results['preset']}'" if results["preset"] else ""
    changes = "".join(f", {option}={value}" for option, value in results["changes"].items())
    return results["dataset"] + preset + changes


def finding_figure(name: str, sweep: Json, verdict: Json | None, context: str = "") -> Figure:
    """The figure of `draw_finding`."""
    measures = sweep["measures"]
    conditions = curves.in_order(sweep["conditions"])
    # Every label must find its place beside the axes.
    height = max(PANEL_HEIGHT, (len(conditions) + 2) * LINE_HEIGHT)
    rows = 1 if len(measures) <= MOST_BESIDE else 2
    columns = max(-(-len(measures) // rows), 1)
    figure = _figure(PANEL_WIDTH * columns, height * rows + 1.1)
    looks = curves.looks(conditions)
    ends: Ends = []
    panels = _panels(figure, rows, columns)
    for axes in panels[max(len(measures), 1) :]:
        axes.set_axis_off()
    for axes, measure in zip(panels, measures, strict=False):
        _set_up(axes, measure)
        axes.set_title(curves.measure(measure).long, fontsize=9.5, loc="left")
        axes.set_ylabel("accuracy" if curves.is_share(measure) else "")
        axes.set_xlabel("training step", fontsize=9)
        labels = [
            label
            for condition, one in conditions.items()
            for label in _draw_curve(axes, one, measure, looks[condition], condition)
        ]
        _over_steps(axes, sweep)
        ends.append((axes, labels + _draw_chances(axes, conditions, measure)))
    _headline(figure, sweep.get("title") or name, curves.verdict_text(verdict))
    _small_print(figure, _finding_notes(sweep, context))
    label_ends(figure, ends)
    return figure


def _finding_notes(sweep: Json, context: str) -> str:
    """What a figure of a finding says below."""
    conditions = sweep["conditions"]
    empty = [name for name, one in conditions.items() if not one["runs"]]
    parts = [context, curves.count_text(sweep)]
    if len(empty) < len(conditions):
        by = f", by {sweep['axis']}" if sweep["axis"] else ""
        parts.append(f"Lines: means over seeds{by}; bands: their 95 % intervals")
        parts += [f"No runs of {', '.join(empty)}"] if empty else []
        if curves.num_diverged(sweep):
            parts.append("Crosses: runs that diverged, in no mean")
    return "".join(f"{part}. " for part in parts if part).rstrip()


def summary_figure(results: Json) -> Figure:
    """The figure of `draw_summary`."""
    sweeps, verdicts = results["sweeps"], results["verdicts"]
    columns = min(SMALL_COLUMNS, max(len(sweeps), 1))
    rows = max(-(-len(sweeps) // columns), 1)
    figure = _figure(SMALL_WIDTH * columns, SMALL_HEIGHT * rows + 0.8)
    panels = _panels(figure, rows, columns)
    ends: Ends = []
    for axes, (name, sweep) in zip(panels, sweeps.items(), strict=False):
        draw = _draw_over_training if _is_over_training(sweep) else _draw_ends
        labels = draw(axes, sweep)
        text, colour = curves.verdict_text(verdicts.get(name))
        axes.set_title(short(sweep.get("title") or name), fontsize=10.5, loc="left", pad=19)
        axes.annotate(
            text, (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points",
            color=colour, fontsize=9, weight="bold",
        )  # fmt: skip
        ends.append((axes, labels))
    for axes in panels[len(sweeps) :]:
        axes.set_axis_off()
    _headline(figure, curves.headline(verdicts), None)
    seeds = len(results["seeds"])
    _small_print(
        figure,
        f"{context_text(results)}, {seeds} seed{'s' * (seeds != 1)}. At the end of training, or "
        "over training where steps are the axis. Points: single runs; lines and bars: means over "
        "seeds. ICL: in-context learning, accuracy on holdout classes; IWL: in-weights learning, "
        "accuracy without support. Dotted: chance in context.",
    )
    label_ends(figure, ends)
    return figure


def axis_places(conditions: Mapping[str, Json]) -> tuple[list[float], str]:
    """Where conditions stand on an axis in [0, 1], and how: 'linear', 'log' or 'in order'.

    By their value, or its logarithm, unless two of them would then be crammed together.
    """
    if curves.is_ordered(conditions):
        values = np.array([float(one["value"]) for one in conditions.values()])
        scales = {"linear": values}
        scales |= {"log": np.log(values)} if (values > 0).all() else {}
        places = {
            how: (scale - scale.min()) / max(np.ptp(scale), 1e-12) for how, scale in scales.items()
        }
        nearest = {how: float(np.diff(np.sort(place)).min()) for how, place in places.items()}
        best = "linear" if nearest["linear"] >= SPARSE else max(nearest, key=nearest.__getitem__)
        if nearest[best] >= CRAMMED:
            return places[best].tolist(), best
    if len(conditions) == 1:
        return [0.5], "in order"
    return np.linspace(0, 1, len(conditions)).tolist(), "in order"


def tick_text(name: str, value: float | None) -> str:
    """'p=0.5' at .5 is '0.5'; any other condition bears its name, as ranks tell nobody anything."""
    text = "" if value is None else f"{value:g}"
    return text if text and name.rsplit("=", 1)[-1] == text else short(name)


def _is_over_training(sweep: Json) -> bool:
    return sweep.get("plot") == "curves" or len(sweep["conditions"]) == 1


def _draw_curve(axes: Axes, condition: Json, measure: str, look: Look, text: str) -> list[EndLabel]:
    """Mean, band and diverged runs of a condition; the label of its end, if there is one."""
    runs = list(condition["runs"].values())
    for run in runs:
        steps, values = curves.points(run, measure)
        if run.get("diverged_at_step") is not None and steps:
            axes.plot(steps, values, color=look.colour, linewidth=0.7, alpha=0.7)
            axes.plot(
                steps[-1], values[-1], "x", color=look.colour, markersize=6, markeredgewidth=1.6
            )
    band = curves.band(runs, measure)
    if not band.steps:
        return []
    axes.fill_between(band.steps, band.low, band.high, color=look.colour, alpha=0.18, linewidth=0)
    axes.plot(
        band.steps, band.mean, look.dashes, color=look.colour, linewidth=1.7,
        marker=look.marker, markersize=4, markevery=max(len(band.steps) // 6, 1),
    )  # fmt: skip
    return [EndLabel(text, look.colour, band.steps[-1], band.mean[-1])]


def _draw_chances(axes: Axes, conditions: Mapping[str, Json], measure: str) -> list[EndLabel]:
    """A dotted line for each chance that differs visibly from the others."""
    labels, right = [], axes.get_xlim()[1]
    for chance in curves.distinct_chances(conditions, measure):
        axes.axhline(chance, color=style.GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        labels.append(EndLabel("chance", style.GREY, right, chance))
    return labels


def _draw_over_training(axes: Axes, sweep: Json) -> list[EndLabel]:
    """Measures by colour, conditions by dashes."""
    labels, measures = [], sweep["measures"]
    _set_up(axes, *measures)
    for index, (name, condition) in enumerate(curves.in_order(sweep["conditions"]).items()):
        for measure in measures:
            shown = curves.measure(measure)
            look = shown.look._replace(dashes=curves.DASHES[index % len(curves.DASHES)])
            alone = len(sweep["conditions"]) == 1
            text = shown.short if alone else f"{shown.short}, {name}"
            labels += _draw_curve(axes, condition, measure, look, text)
    axes.set_xlabel("training step", fontsize=8.5)
    _over_steps(axes, sweep)
    _draw_chances(axes, sweep["conditions"], ICL if ICL in measures else "")
    return labels


def _draw_ends(axes: Axes, sweep: Json) -> list[EndLabel]:
    """What the runs end with: a point a run, joined means where the conditions have an order."""
    conditions = curves.in_order(sweep["conditions"])
    places, how = axis_places(conditions)
    measures, labels = sweep["measures"], []
    _set_up(axes, *measures)
    for index, name in enumerate(measures):
        shown = curves.measure(name)
        shift = APART * (2 * index - len(measures) + 1)
        ends = [curves.finals(one, name) for one in conditions.values()]
        xs = [place + shift for place, values in zip(places, ends, strict=True) for _ in values]
        ys = [value for values in ends for value in values]
        axes.plot(
            xs, ys, shown.look.marker, color=shown.look.colour, markersize=4, alpha=0.45,
            markeredgewidth=0,
        )  # fmt: skip
        means = [(x, float(np.mean(own))) for x, own in zip(places, ends, strict=True) if own]
        if not means:
            continue
        if curves.is_ordered(conditions):
            axes.plot(*zip(*means, strict=True), shown.look.dashes, color=shown.look.colour, lw=1.6)
        else:
            half = 0.1 / max(len(conditions) - 1, 1)
            for x, mean in means:
                axes.hlines(mean, x - half, x + half, color=shown.look.colour, linewidth=2)
        labels.append(EndLabel(shown.short, shown.look.colour, *means[-1]))
    texts = [tick_text(name, one["value"]) for name, one in conditions.items()]
    long = max(map(len, texts), default=0) * len(texts) > 44
    axes.set_xticks(places, texts, fontsize=8, rotation=20 if long else 0)
    axes.set(xlim=(-0.09, 1.09))
    axes.set_xlabel(sweep["axis"] + (" (log scale)" if how == "log" else ""), fontsize=8.5)
    _draw_chances(axes, conditions, ICL if ICL in measures else "")
    if not labels:
        _say_nothing(axes, sweep)
    return labels


def _set_up(axes: Axes, *measures: str) -> None:
    style.tidy(axes)
    axes.tick_params(labelsize=8.5)
    if all(map(curves.is_share, measures)):
        axes.set_ylim(SHARE_LIMITS)


def _over_steps(axes: Axes, sweep: Json) -> None:
    if not axes.lines:
        axes.set_xticks([])
        _say_nothing(axes, sweep)
        return
    # Set once, so that labels can be placed by the limits.
    axes.set_xlim(0, axes.dataLim.x1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: curves.step_text(step)))


def _headline(figure: Figure, title: str, verdict: tuple[str, str] | None) -> None:
    """A title, and beside it a verdict with its colour."""
    text, colour = verdict or ("", style.INK)
    room = figure.get_figwidth() * style.POINTS_PER_INCH - TITLE_SIZE * len(text) * BOLD_WIDTH
    longest = max(int(room / (TITLE_SIZE * BOLD_WIDTH)) - 3, 8)
    shown = figure.suptitle(
        short(title, longest), x=0.01, ha="left", fontsize=TITLE_SIZE, weight="bold"
    )
    beside = Annotation(
        text, (1, 0.5), xytext=(14, 0), xycoords=shown, textcoords="offset points", va="center",
        color=colour, fontsize=TITLE_SIZE - 1, weight="bold", annotation_clip=False,
    )  # fmt: skip
    beside.set_in_layout(False)
    figure.add_artist(beside)


def _say_nothing(axes: Axes, sweep: Json) -> None:
    """Why there is no line."""
    any_runs = any(one["runs"] for one in sweep["conditions"].values())
    axes.text(
        0.5, 0.6, "not measured" if any_runs else "no runs", transform=axes.transAxes,
        ha="center", color="#555555",
    )  # fmt: skip


def _small_print(figure: Figure, text: str) -> None:
    lines = style.wrap(text, figure.get_figwidth() - 0.3, SMALL_PRINT)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL_PRINT, color="#555555")


def _figure(width: float, height: float) -> Figure:
    figure = style.new_figure(width, height)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.08, h_pad=0.09)
    return figure


def _panels(figure: Figure, rows: int, columns: int) -> list[Axes]:
    return list(figure.subplots(rows, max(columns, 1), squeeze=False).flat)


def _save(figure: Figure, path_stem: Path) -> None:
    """PNG and SVG; equal figures are equal bytes."""
    style.save(figure, Path(f"{path_stem}.png"))
    settings: dict[str, Any] = {"svg.hashsalt": "emergent-icl"}
    with matplotlib.rc_context(settings):
        figure.savefig(Path(f"{path_stem}.svg"), metadata={"Date": None})
