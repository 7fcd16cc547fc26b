"""Pictures of what was measured: speedups, rates, parts of a step, growth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.explain import PARTS, Point
from benchmarks.records import Measurements, text_of
from benchmarks.timing import Measurement
from emergent_icl.plots import style

ROW_INCHES, PANEL_INCHES, WIDTH = 0.34, 1.1, 8.0
# Room right of the longest bar for its number, as a share of the axis.
ROOM = 0.4
SIZE = 8.5
TIMES, RATE = "times as fast", "sequences/s"


class Panel(NamedTuple):
    """Bars below each other, by what stands left of them."""

    title: str
    unit: str
    bars: dict[str, Measurement]


def draw(found: Measurements, title: str, folder: Path) -> list[Path]:
    """Draws what there is as PNGs in a folder; returns their paths."""
    figures = {}
    panels = [panel for panel in make_panels(found) if panel.bars]
    if panels:
        figures[folder / "benchmark.png"] = overview_figure(panels, title)
    if "growth" in found.extra:
        figures[folder / "scaling.png"] = growth_figure(found.extra["growth"], title)
    for path, figure in figures.items():
        style.save(figure, path)
    return list(figures)


def make_panels(found: Measurements) -> list[Panel]:
    """Every panel of the overview, those without bars included."""

    def named(prefix: str = "", suffix: str = "") -> dict[str, Measurement]:
        return {
            name.removeprefix(prefix).removesuffix(suffix).replace("_", " "): one._replace(
                median=found.ratios.get(name, one.median)
            )
            for name, one in found.by_name.items()
            if name.startswith(prefix) and name.endswith(suffix)
        }

    parts = {
        label: found.by_name[f"part_{part}"]
        for part, label in PARTS.items()
        if f"part_{part}" in found.by_name
    }
    replicas = {name: one for name, one in named("replicas_small_").items() if one.unit != "x"}
    launches = "From launch to the first step, paper preset, by compilation cache"
    return [
        Panel(
            "Speedup over the original's way, and range over rounds", TIMES, named("", "_speedup")
        ),
        Panel("What makes sequences", RATE, named("data_")),
        Panel("Where a step spends its time, each part compiled alone", "ms a step", parts),
        Panel(launches, "s", named("startup_paper_")),
        Panel("Replicas in one program, small preset", "ms a step", replicas),
    ]


def overview_figure(panels: Sequence[Panel], title: str) -> Figure:
    """One panel below the other."""
    heights = [PANEL_INCHES + ROW_INCHES * len(panel.bars) for panel in panels]
    figure = style.new_figure(WIDTH, sum(heights) + 0.5)
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for one, panel in zip(axes, panels, strict=True):
        _draw_panel(one, panel)
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    bars = list(panel.bars.values())
    start = 1 if panel.unit == TIMES else 0
    for row, (label, bar) in enumerate(panel.bars.items()):
        color = style.VERMILLION if "baseline" in label else style.BLUE
        if panel.unit == RATE:
            # A length means nothing where there is no zero.
            axes.plot(bar.median, row, "o", color=color)
        else:
            axes.barh(row, bar.median - start, left=start, height=0.62, color=color)
        axes.plot([bar.min, bar.max], [row, row], "|-", color=style.INK, linewidth=1.2)
        end = (max(bar.median, bar.max), row)
        axes.annotate(text_of(bar), end, (6, 0), textcoords="offset points", va="center", size=SIZE)
    least, most = min(bar.min for bar in bars), max(bar.max for bar in bars)
    if panel.unit in (TIMES, RATE):
        low = least / 3 if panel.unit == RATE else min(least, 1) / 1.3
        _plain_log(axes.set_xscale, axes.xaxis)
        axes.set_xlim(low, low * (most / low) ** (1 / (1 - ROOM)))
    else:
        axes.set_xlim(0, most / (1 - ROOM))
    if panel.unit == TIMES:
        axes.axvline(1, color=style.GRAY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(bars)), list(panel.bars), size=SIZE)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SIZE)
    axes.set_xlabel(panel.unit, size=SIZE)
    axes.set_title(panel.title, size=9.5, loc="left")
    style.tidy(axes)


def growth_figure(growth: Mapping[str, Any], title: str) -> Figure:
    """Log-log panels, step time against size, and what the arithmetic would explain."""
    found = {name: entry["points"] for name, entry in growth.items() if name != "verdict"}
    figure = style.new_figure(3.1 * len(found), 3.6)
    several = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, points) in zip(several, found.items(), strict=True):
        _draw_growth(axes, name, [Point(**point) for point in points])
    figure.suptitle(title, size=11, weight="bold")
    return figure


def _draw_growth(axes: Axes, name: str, points: Sequence[Point]) -> None:
    sizes = [point.size for point in points]
    times = [point.seconds * 1e3 for point in points]
    # What the time would be if every operation, or every byte, took as long as at first.
    expected = [
        times[0] * max(point.flops / points[0].flops, point.bytes / points[0].bytes)
        for point in points
    ]
    axes.plot(sizes, expected, "--", color=style.GRAY)
    axes.plot(sizes, times, "o-", color=style.BLUE, markersize=4)
    _plain_log(axes.set_xscale, axes.xaxis)
    _plain_log(axes.set_yscale, axes.yaxis)
    axes.set_xticks(sizes, [_short(size) for size in sizes], size=SIZE)
    axes.set_ylim(min(*times, *expected) / 1.6, max(*times, *expected) * 2.2)
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    axes.set_title(
        f"{times[0]:,.3g} to {times[-1]:,.3g} ms a step", size=9, loc="left", color=style.BLUE
    )
    axes.text(
        0.03, 0.97, "- -  if operations or traffic decide", size=7.5, color=style.GRAY, va="top",
        transform=axes.transAxes,
    )  # fmt: skip
    axes.set_xlabel(name)
    axes.set_ylabel("ms a step", size=SIZE)
    style.tidy(axes)


def _plain_log(set_scale: Callable[[str], None], axis: Axis) -> None:
    """A logarithmic axis without powers of ten."""
    set_scale("log")
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 and size % 1000 == 0 else str(size)
