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
from benchmarks.records import Measurements, number
from benchmarks.timing import Measurement
from emergent_icl.plots import style

ROW_INCHES, PANEL_INCHES, WIDTH = 0.34, 1.1, 8.0
# Room right of the longest bar for its number, as a share of the axis.
ROOM = 0.34
SIZE = 8.5
TIMES = "times as fast"


class Panel(NamedTuple):
    """Bars below each other.

    Attributes:
      title: above them.
      unit: of the axis, which is logarithmic for TIMES, where bars begin at 1, and for rates.
      bars: by what stands left of them.
      texts: right of each; None for median and unit.
    """

    title: str
    unit: str
    bars: dict[str, Measurement]
    texts: list[str] | None = None


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
    ratios = {name: found.ratios[name] for name in found.ratios if name.endswith("_speedup")}
    speedups = {
        _label(name, "", "_speedup"): found.by_name[name]._replace(median=value)
        for name, value in ratios.items()
    }
    parts = {
        label: found.by_name[f"part_{part}"]
        for part, label in PARTS.items()
        if f"part_{part}" in found.by_name
    }
    total = sum(part.median for part in parts.values())
    replicas = _named(found, "replicas_small_")
    return [
        Panel(
            "Speedup over the original's way: median, and range over rounds",
            TIMES,
            speedups,
            [f"{one.median:.3g} x ({one.min:.3g} to {one.max:.3g})" for one in speedups.values()],
        ),
        Panel("What makes sequences", "sequences/s", _named(found, "data_")),
        Panel(
            "Where a step spends its time, each part compiled alone",
            "ms",
            parts,
            [f"{number(one.median)} ms, {one.median / total:.1%}" for one in parts.values()],
        ),
        Panel(
            "From launch to the first step, paper preset, by compilation cache",
            "s",
            _named(found, "startup_paper_"),
        ),
        Panel(
            "Replicas in one program, small preset",
            "ms a step",
            {label: one for label, one in replicas.items() if one.unit == "ms/step"},
        ),
    ]


def _named(found: Measurements, prefix: str) -> dict[str, Measurement]:
    return {
        _label(name, prefix): one for name, one in found.by_name.items() if name.startswith(prefix)
    }


def _label(name: str, prefix: str, suffix: str = "") -> str:
    return name.removeprefix(prefix).removesuffix(suffix).replace("_", " ")


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
    is_rate = panel.unit == "sequences/s"
    bars = list(panel.bars.values())
    texts = panel.texts or [f"{number(bar.median)} {panel.unit.split()[0]}" for bar in bars]
    start = 1 if panel.unit == TIMES else 0
    for row, (label, bar) in enumerate(panel.bars.items()):
        color = style.VERMILLION if "baseline" in label else style.BLUE
        if is_rate:
            # A length means nothing where there is no zero.
            axes.plot([bar.median], [row], "o", color=color)
        else:
            axes.barh(row, bar.median - start, left=start, height=0.62, color=color)
        axes.plot(
            [bar.min, bar.max], [row, row], color=style.INK, linewidth=1.2, marker="|", markersize=6
        )
        place = (max(bar.median, bar.max), row)
        axes.annotate(texts[row], place, (6, 0), textcoords="offset points", va="center", size=SIZE)
    high = max(bar.max for bar in bars)
    if panel.unit == TIMES or is_rate:
        least = min(bar.min for bar in bars)
        low = least / 3 if is_rate else min(least, 1) / 1.3
        _plain_log(axes.set_xscale, axes.xaxis)
        axes.set_xlim(low, low * (high / low) ** (1 / (1 - ROOM)))
    else:
        axes.set_xlim(0, high / (1 - ROOM))
    if panel.unit == TIMES:
        axes.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
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
    axes.plot(sizes, expected, "--", color=style.GREY)
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
        0.03, 0.97, "- -  if operations or traffic decide", size=7.5, color=style.GREY, va="top",
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
