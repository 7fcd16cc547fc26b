"""Figures of a benchmark: speedups, rates, parts of a step, growth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.explain import Point
from benchmarks.measure import Benchmark, Measurement
from emergent_icl.plots import style

SIZE = 8.5
# Title -> start and end of the names of its measurements, and their unit.
PANELS = {
    "Speedup over the reference implementation's approach": ("", "_speedup", "x"),
    "Making sequences": ("data_", "", "sequences/s"),
    "Parts of a step, each compiled separately": ("part_", "", "ms/step"),
    "From launch to the first step, paper preset, by compilation cache": (
        "startup_paper_",
        "",
        "s",
    ),
    "Replicas in one program, small preset": ("replicas_small_", "", "ms/step"),
}
# Measurements of a panel, by their labels.
Rows = dict[str, Measurement]


def draw(bench: Benchmark, title: str, folder: Path) -> list[Path]:
    """Draws what was measured as PNGs in a folder; returns their paths."""
    figures = {}
    if panels := {heading: rows for heading, rows in make_panels(bench).items() if rows}:
        figures[folder / "benchmark.png"] = overview_figure(panels, title)
    if "growth" in bench.extra:
        figures[folder / "scaling.png"] = growth_figure(
            bench.extra["growth"],
            title.partition(";")[0],  # The number of devices is one of the sizes.
        )
    for path, figure in figures.items():
        style.save(figure, path)
    return list(figures)


def make_panels(bench: Benchmark) -> dict[str, Rows]:
    """Rows of every panel by its title, including empty panels."""
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


@style.in_our_style
def overview_figure(panels: Mapping[str, Rows], title: str) -> Figure:
    """Stacked panels of medians, with ranges over rounds."""
    heights = [1.1 + 0.34 * len(rows) for rows in panels.values()]
    figure = style.new_figure(8.0, sum(heights) + 0.5)
    several = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (heading, rows) in zip(several, panels.items(), strict=True):
        axes.set_title(heading, size=9.5, loc="left")
        _draw_panel(axes, rows, PANELS[heading][-1])
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_panel(axes: Axes, rows: Rows, unit: str) -> None:
    for row, (label, one) in enumerate(rows.items()):
        color = style.VERMILLION if "baseline" in label else style.BLUE
        axes.plot([one.min, one.max], [row, row], "|-", color=color, linewidth=1.2)
        axes.plot(one.median, row, "o", color=color)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "size": SIZE}
        axes.annotate(str(one), (1.02, row), **place)
    if unit == "x":
        axes.axvline(1, color=style.GRAY, linewidth=0.8, linestyle=":")
    if unit in ("x", "sequences/s"):
        _plain_log(axes, "x")
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(rows)), list(rows), size=SIZE)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SIZE)
    axes.set_xlabel("speedup" if unit == "x" else unit, size=SIZE)
    style.tidy(axes)


@style.in_our_style
def growth_figure(growth: Mapping[str, Any], title: str) -> Figure:
    """Step time against size on logarithmic axes, and growth proportional to the operations."""
    found = {name: entry["points"] for name, entry in growth.items() if name != "verdict"}
    figure = style.new_figure(3.1 * len(found), 3.6)
    several = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, points) in zip(several, found.items(), strict=True):
        _draw_growth(axes, name, [Point(**point) for point in points])
    several[0].set_ylabel("ms per step")
    style.legend_below(figure, several[:1], ncols=2)
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_growth(axes: Axes, name: str, points: Sequence[Point]) -> None:
    sizes, times = [point.size for point in points], [point.seconds * 1e3 for point in points]
    first = points[0]
    # The time at the first size, scaled by operations or bytes.
    expected = [
        times[0] * max(point.flops / first.flops, point.bytes / first.bytes) for point in points
    ]
    axes.plot(sizes, times, "o-", color=style.BLUE, markersize=4, label="measured")
    label = "as operations or memory traffic, whichever grows more"
    axes.plot(sizes, expected, "--", color=style.GRAY, label=label)
    _plain_log(axes, "x")
    _plain_log(axes, "y")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], size=SIZE)
    axes.set_xlabel(name)
    axes.set_ylim(min(*times, *expected) / 1.6, max(*times, *expected) * 1.6)
    axes.set_title(f"{times[0]:,.3g} to {times[-1]:,.3g} ms/step", size=9, loc="left")
    style.tidy(axes)


def _plain_log(axes: Axes, which: str) -> None:
    """Makes an axis logarithmic, with plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
