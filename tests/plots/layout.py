"""Finds texts that overlap each other or extend beyond the figure."""

import itertools

from matplotlib.image import AxesImage
from matplotlib.text import Text


def clashes(figure, images=False):
    """Overlaps of texts with each other, the figure's edge, and optionally images."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    unseen = set(_ticks_out_of_view(figure))
    texts = {
        text: text.get_window_extent(renderer)
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in unseen
    }
    found = [
        f"{one.get_text()!r} and {other.get_text()!r}"
        for (one, box), (other, other_box) in itertools.combinations(texts.items(), 2)
        if _overlap(box, other_box)
    ]
    whole = figure.bbox
    found += [
        f"{text.get_text()!r} extends beyond the figure"
        for text, box in texts.items()
        if not (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1)
    ]
    if images:
        found += [
            f"{text.get_text()!r} and an image"
            for text, box in texts.items()
            for image in figure.findobj(AxesImage)
            if _overlap(box, image.get_window_extent(renderer))
        ]
    return found


def _ticks_out_of_view(figure):
    """Labels that Matplotlib creates but does not draw."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)


def _overlap(one, other):
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1
