"""Pictures of what was measured: speedups, rates, parts of a step, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from benchmarks.explain import Point
from benchmarks.measure import Benchmark, Measurement, text_of
from emergent_icl.plots import style

ROW_INCHES, PANEL_INCHES, WIDTH = 0.34, 1.1, 8.0
SIZE = 8.5
# Title -> what its measurements' names begin and end with, and their unit.
PANELS = {
    "Speedup over the original's way, and range over rounds": ("", "_speedup", "x"),
    "What makes sequences": ("data_", "", "sequences/s"),
    "Where a step spends its time, each part compiled alone": ("part_", "", "ms/step"),
    "From launch to the first step, paper preset, by compilation cache": ("startup_", "", "s"),
    "Replicas in one program, small preset": ("replicas_small_", "", "ms/step"),
}
LOGARITHMIC = ("x", "sequences/s")
# Of a panel, by what stands left of them.
Rows = dict[str, Measurement]


def draw(bench: Benchmark, title: str, folder: Path) -> list[Path]:
    """Draws what there is as PNGs in a folder; returns their paths."""
    figures = {}
    panels = {heading: rows for heading, rows in make_panels(bench).items() if rows}
    if panels:
        figures[folder / "benchmark.png"] = overview_figure(panels, title)
    if "growth" in bench.extra:
        figures[folder / "scaling.png"] = growth_figure(bench.extra["growth"], title)
    for path, figure in figures.items():
        style.save(figure, path)
    return list(figures)


def make_panels(bench: Benchmark) -> dict[str, Rows]:
    """Rows of every panel of the overview by its title, of those without any, too."""
    return {
        title: {
            name.removeprefix(prefix).removesuffix(suffix).replace("_", " "): one._replace(
                median=bench.ratios.get(name, one.median)
            )
            for name, one in bench.by_name.items()
            if name.startswith(prefix) and name.endswith(suffix) and one.unit == unit
        }
        for title, (prefix, suffix, unit) in PANELS.items()
    }


def overview_figure(panels: Mapping[str, Rows], title: str) -> Figure:
    """One panel below the other."""
    heights = [PANEL_INCHES + ROW_INCHES * len(rows) for rows in panels.values()]
    figure = style.new_figure(WIDTH, sum(heights) + 0.5)
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for one, (heading, rows) in zip(axes, panels.items(), strict=True):
        one.set_title(heading, size=9.5, loc="left")
        _draw_panel(one, rows, PANELS[heading][-1])
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_panel(axes: Axes, rows: Rows, unit: str) -> None:
    """A median and a range a row, with the numbers in a column of their own."""
    for row, (label, one) in enumerate(rows.items()):
        color = style.VERMILLION if "baseline" in label else style.BLUE
        axes.plot([one.min, one.max], [row, row], "|-", color=color, linewidth=1.2)
        axes.plot(one.median, row, "o", color=color)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "size": SIZE}
        axes.annotate(text_of(one), (1.02, row), **place)
    if unit == "x":
        axes.axvline(1, color=style.GRAY, linewidth=0.8, linestyle=":")
    if unit in LOGARITHMIC:
        _plain_log(axes, "x")
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(rows)), list(rows), size=SIZE)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SIZE)
    axes.set_xlabel("times as fast" if unit == "x" else unit, size=SIZE)
    style.tidy(axes)


def growth_figure(growth: Mapping[str, Any], title: str) -> Figure:
    """Log-log panels, step time against size, and what the arithmetic would explain."""
    found = {name: entry["points"] for name, entry in growth.items() if name != "verdict"}
    figure = style.new_figure(3.1 * len(found), 3.6)
    several = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, points) in zip(several, found.items(), strict=True):
        _draw_growth(axes, name, [Point(**point) for point in points])
    style.legend_below(figure, several[0], ncols=2)
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_growth(axes: Axes, name: str, points: Sequence[Point]) -> None:
    sizes, times = [point.size for point in points], [point.seconds * 1e3 for point in points]
    # What the time would be if every operation, or every byte, took as long as at first.
    expected = [
        times[0] * max(point.flops / points[0].flops, point.bytes / points[0].bytes)
        for point in points
    ]
    axes.plot(sizes, times, "o-", color=style.BLUE, markersize=4, label="measured")
    label = "if operations or memory traffic decided"
    axes.plot(sizes, expected, "--", color=style.GRAY, label=label)
    _plain_log(axes, "x")
    _plain_log(axes, "y")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], size=SIZE)
    axes.set_xlabel(name)
    axes.set_ylim(min(*times, *expected) / 1.6, max(*times, *expected) * 1.6)
    axes.set_title(f"{times[0]:,.3g} to {times[-1]:,.3g} ms a step", size=9, loc="left")
    style.tidy(axes)


def _plain_log(axes: Axes, which: str) -> None:
    """A logarithmic axis without powers of ten."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
