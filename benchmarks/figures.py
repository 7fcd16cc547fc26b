"""Pictures of what was measured: speedups, rates, parts of a step, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.findings import SPEEDUPS, Findings
from benchmarks.growth import Point
from benchmarks.profile import PARTS
from benchmarks.timing import Measurement
from emergent_icl.plots import style

ROW_INCHES, PANEL_INCHES, WIDTH = 0.34, 1.1, 8.0
# Room right of the longest bar for its number, as a share of the axis.
ROOM = 0.34
SIZE = 8.5
TIMES = "times as fast"


class Bar(NamedTuple):
    """A row of a panel.

    Attributes:
      label: left of it.
      value: its length.
      low: where its spread begins.
      high: where it ends.
      text: right of it.
      colour: of the bar.
      start: where it begins.
    """

    label: str
    value: float
    low: float
    high: float
    text: str
    colour: str = style.BLUE
    start: float = 0.0


class Panel(NamedTuple):
    """Bars below each other.

    Attributes:
      title: above them.
      bars: from the top.
      unit: of the axis.
      is_log: whether the axis is logarithmic.
    """

    title: str
    bars: list[Bar]
    unit: str
    is_log: bool = False


def draw_overview(findings: Findings, title: str, path: Path) -> bool:
    """Draws what there is as a PNG; False if there is nothing to draw."""
    panels = [panel for panel in make_panels(findings) if panel.bars]
    if not panels:
        return False
    style.save(overview_figure(panels, title), path)
    return True


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
    rows = range(len(panel.bars))
    for row, bar in zip(rows, panel.bars, strict=True):
        if panel.is_log and panel.unit != TIMES:
            # A length means nothing where there is no zero.
            axes.plot([bar.value], [row], "o", color=bar.colour)
        else:
            axes.barh(row, bar.value, left=bar.start, height=0.62, color=bar.colour)
        end = bar.start + max(bar.value, bar.high)
        if bar.high > bar.low:
            axes.plot(
                [bar.start + bar.low, bar.start + bar.high], [row, row], color=style.INK,
                linewidth=1.2, marker="|", markersize=6,
            )  # fmt: skip
        axes.annotate(
            bar.text, (end, row), (6, 0), textcoords="offset points", va="center", size=SIZE
        )
    ends = [bar.start + max(bar.value, bar.high) for bar in panel.bars]
    if panel.is_log:
        least = min(bar.start + min(bar.value, bar.low) for bar in panel.bars)
        low = min(least, 1) / 1.3 if panel.unit == TIMES else least / 3
        axes.set_xscale("log")
        axes.set_xlim(low, low * (max(ends) / low) ** (1 / (1 - ROOM)))
        axes.xaxis.set_major_formatter(FuncFormatter(_number))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, max(ends) / (1 - ROOM))
    if panel.unit == TIMES:
        axes.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(list(rows), [bar.label for bar in panel.bars], size=SIZE)
    axes.set_ylim(len(panel.bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SIZE)
    axes.set_xlabel(panel.unit, size=SIZE)
    axes.set_title(panel.title, size=9.5, loc="left")
    style.tidy(axes)


def make_panels(findings: Findings) -> list[Panel]:
    """Every panel of the overview, those without bars included."""
    by_name = {one.name: one for one in findings.measurements}
    return [
        Panel("Speedup over the original's way: median, and range over rounds",
              _speedups(findings, by_name), TIMES, is_log=True),
        Panel("What makes sequences", _rates(by_name), "sequences/s", is_log=True),
        Panel("Where a step spends its time", _parts(by_name), "ms"),
        Panel("From launch to the first step, paper preset", _startups(by_name), "s"),
        Panel("Replicas in one program, small preset", _replicas(by_name), "ms a step"),
    ]  # fmt: skip


def _speedups(findings: Findings, by_name: Mapping[str, Measurement]) -> list[Bar]:
    names = [*SPEEDUPS, *(name for name in findings.speedups if name not in SPEEDUPS)]
    bars = []
    for name in names:
        if name in findings.speedups:
            value, spread = findings.speedups[name], by_name[f"{name}_speedup"]
            text = f"{value:.3g} x ({spread.min:.3g} to {spread.max:.3g})"
            # From 1 on, which is no speedup at all.
            ends = (value - 1, spread.min - 1, spread.max - 1)
            bars.append(Bar(name.replace("_", " "), *ends, text, start=1.0))
    return bars


def _rates(by_name: Mapping[str, Measurement]) -> list[Bar]:
    return [
        Bar(
            name.removeprefix("data_").replace("_", " "), one.median, one.min, one.max,
            f"{one.median:,.0f}", style.VERMILLION if "baseline" in name else style.BLUE,
        )
        for name, one in by_name.items()
        if name.startswith("data_")
    ]  # fmt: skip


def _parts(by_name: Mapping[str, Measurement]) -> list[Bar]:
    """A stacked bar, unstacked over the rows so that every part has room for its name."""
    bars, start = [], 0.0
    total = sum(by_name[f"part_{part}"].median for part in PARTS if f"part_{part}" in by_name)
    colours = (style.GREY, style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.INK)
    for (part, label), colour in zip(PARTS.items(), colours, strict=True):
        if f"part_{part}" in by_name:
            one = by_name[f"part_{part}"]
            text = f"{one.median:,.3g} ms, {one.median / total:.1%}"
            bars.append(Bar(label, one.median, one.median, one.median, text, colour, start))
            start += one.median
    return bars


def _startups(by_name: Mapping[str, Measurement]) -> list[Bar]:
    found = {name: by_name.get(f"startup_paper_{name}") for name in ("cold", "warm")}
    return [
        Bar(f"{name} cache", one.median, one.min, one.max, f"{one.median:.1f} s")
        for name, one in found.items()
        if one is not None
    ]


def _replicas(by_name: Mapping[str, Measurement]) -> list[Bar]:
    return [
        Bar(
            name.removeprefix("replicas_small_").replace("_", " "), one.median, one.min, one.max,
            f"{one.median:.3g} ms",
        )
        for name, one in by_name.items()
        if name.startswith("replicas_") and one.unit == "ms/step"
    ]  # fmt: skip


def draw_growth(growth: Mapping[str, Any], title: str, path: Path) -> None:
    """Draws log-log panels, step time and operations against size, as a PNG."""
    axes_of = {name: entry for name, entry in growth.items() if name != "verdict"}
    figure = style.new_figure(3.1 * len(axes_of), 3.6)
    for axes, (name, entry) in zip(
        figure.subplots(1, len(axes_of), squeeze=False)[0], axes_of.items(), strict=True
    ):
        _draw_growth(axes, name, [Point(**point) for point in entry["points"]])
    figure.suptitle(title, size=11, weight="bold")
    style.save(figure, path)


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
    axes.set(xscale="log", yscale="log", xlabel=name)
    axes.set_xticks(sizes, [_short(size) for size in sizes], size=SIZE)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(min(*times, *expected) / 1.6, max(*times, *expected) * 2.2)
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    axes.set_title(
        f"{times[0]:,.3g} to {times[-1]:,.3g} ms a step", size=9, loc="left", color=style.BLUE
    )
    axes.text(
        0.03, 0.97, "- -  if operations or traffic decide", size=7.5, color=style.GREY, va="top",
        transform=axes.transAxes,
    )  # fmt: skip
    axes.set_ylabel("ms a step", size=SIZE)
    style.tidy(axes)


def _number(value: float, place: int | None) -> str:
    """Of a tick; no powers of ten."""
    del place
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 and size % 1000 == 0 else str(size)
