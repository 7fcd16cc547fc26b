import json

import numpy as np
import pytest
from PIL import Image

from emergent_icl.plots import style
from emergent_icl.plots.learning_curves import draw, learning_curves_figure
from emergent_icl.plots.style import LOOKS
from emergent_icl.runs.workdir import Workdir

ICL_COLOR, IWL_COLOR, LOSS_COLOR = (LOOKS[measure].color for measure in ("icl", "iwl", "loss"))

RECORDS = [
    {
        "step": step,
        "train/loss": 5 - step / 100,
        "eval/fewshot_holdout/accuracy_closed": 0.5 + step / 1000,
        "eval/no_support_zipfian/accuracy": 0.1,
    }
    for step in range(0, 401, 100)
]


def pixels(path, color):
    """The number of pixels of a PNG with exactly this color."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.count_nonzero((np.asarray(Image.open(path).convert("RGB")) == rgb).all(axis=-1))


@pytest.mark.parametrize(
    ("drop", "absent"),
    [
        ((), ()),
        (("eval/fewshot_holdout/accuracy_closed",), (ICL_COLOR,)),
        (("eval/no_support_zipfian/accuracy",), (IWL_COLOR,)),
        (("train/loss",), (LOSS_COLOR,)),
    ],
)
def test_each_measured_curve_is_drawn(tmp_path, drop, absent):
    records = [{k: v for k, v in record.items() if k not in drop} for record in RECORDS]
    path = tmp_path / "figures" / "curves.png"
    style.save(learning_curves_figure(records, "title", {"icl": 0.5}), path)
    for color in (ICL_COLOR, IWL_COLOR, LOSS_COLOR):
        assert (pixels(path, color) > 50) == (color not in absent), color


def test_a_run_without_records_has_an_empty_figure(tmp_path):
    style.save(learning_curves_figure([], "title", {}), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000


def texts_and_levels(folder, config):
    workdir = Workdir(folder)
    workdir.make()
    workdir.claim(config)
    replicas = ["a", "b"][: config.training.replicas] if config.training.replicas > 1 else [""]
    lines = [json.dumps({"step": 1, "train/loss": 1.0, "replica": name}) for name in replicas]
    workdir.metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, path: drawn.append(figure))
        draw(workdir)
    axes = drawn[0].axes[:2]
    levels = [
        {line.get_ydata()[0] for line in one.lines if len(line.get_xdata()) == 2} for one in axes
    ]
    said = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    return [text for text in said if "chance" in text or "frequent" in text], levels


def test_iwl_is_compared_with_the_most_frequent_class_if_classes_are_skewed(config, tmp_path):
    said, levels = texts_and_levels(tmp_path / "uniform", config)
    assert (said, levels[0]) == (["chance (ICL)"], {0.5})
    config.data.sequences.zipf_exponent = 3.0
    most_frequent = 1 / sum(rank**-3 for rank in range(1, 33))
    said, levels = texts_and_levels(tmp_path / "skewed", config)
    assert said == ["chance (ICL)", "most frequent label (IWL)"]
    assert sorted(levels[0]) == pytest.approx([0.5, most_frequent])
    config.training.replicas = 2
    said, levels = texts_and_levels(tmp_path / "replicas", config)
    assert said == ["chance (ICL)", "most frequent label (IWL)"]
    assert list(map(list, levels)) == [[0.5], [pytest.approx(most_frequent)]]


@pytest.mark.parametrize(("count", "is_categorical"), [(2, True), (7, True), (8, False)])
def test_up_to_seven_replicas_have_categorical_colors(count, is_categorical):
    records = [{"step": 1, "train/loss": 1.0, "replica": f"{i}"} for i in range(count)]
    lines = learning_curves_figure(records, "title", {}).axes[2].lines
    colors = [line.get_color() for line in lines]
    assert len(set(colors)) == count
    assert (colors == list(style.CATEGORIES[:count])) == is_categorical


def test_the_legend_names_replicas_that_have_no_loss_yet():
    records = [
        {"step": 0, "replica": "b", "eval/fewshot_holdout/accuracy_closed": 0.5},
        {"step": 10, "replica": "a", "train/loss": 2.0},
    ]
    (legend,) = learning_curves_figure(records, "title", {}).legends
    assert {text.get_text() for text in legend.get_texts()} == {"a", "b"}


@pytest.mark.parametrize("names", [
    [f"omniglot_small_bursty_seed{i}" for i in range(6)],
    [f"GAUSSIAN_REDDY_SEED{i}" for i in range(6)],
    [f"omniglot_small_bursty_seed_{i}" + "_again" * 20 for i in range(2)],
    ["_old", "$x$", "new"],
])  # fmt: skip
def test_the_legend_shows_every_name_within_the_figure(names):
    records = [{"step": 1, "train/loss": 1.0, "replica": name} for name in names]
    figure = learning_curves_figure(records, "title", {"icl": 0.5})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    shown = [text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()]
    assert {*shown} == {*names, "chance (ICL)"}
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0
    assert box.x1 <= whole.x1
    assert box.y0 >= 0
    assert box.y1 < min(axes.get_tightbbox().y0 for axes in figure.axes)


def test_a_long_title_is_wrapped():
    title = "a name, trained on 8 pairs, evaluated on " + ", ".join(["fewshot_holdout 6"] * 8)
    figure = learning_curves_figure(RECORDS, title, {})
    figure.draw_without_rendering()
    assert figure._suptitle.get_window_extent().width < figure.bbox.width
