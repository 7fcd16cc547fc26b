"""Heat maps of sweeps over two options: cells, missing values, and chance."""

import copy

import numpy as np
import pytest
from layout import clashes
from made_up_results import make_results
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from emergent_icl.plots import style, sweep_map
from emergent_icl.plots.report import report_page
from emergent_icl.plots.sweep_figures import finding_figure, summary_figure

CHANCE = {"icl": 0.5, "iwl": 0.125}


def run_of(icl, iwl=0.25, diverged=None):
    return {"diverged_at_step": diverged, "curves": {}, "workdir": "", "replica": ""} | {
        "final": {"icl": icl, "iwl": iwl}
    }


def condition(count, p, *icl):
    runs = {str(seed): run_of(one) for seed, one in enumerate(icl)}
    about = {"overrides": {}, "chance": CHANCE, "constant": CHANCE}
    return {"value": [count, p], "runs": runs, **about}


# Of 3 x 2 cells, one has no condition, one no runs, and one only a diverged run.
CONDITIONS = {
    "many": condition(512, 1.0, 0.81, 0.83),
    "few": condition(32, 1.0, 0.61),
    "none": condition(128, 1.0),
    "diverged": condition(128, 0.0, 0.9),
    "rest": condition(512, 0.0, 0.51),
}
CONDITIONS["diverged"]["runs"]["0"] |= {"diverged_at_step": 3}
SWEEP = {
    "title": "Classes by burstiness",
    "axis": ["training classes", "bursty sequences"],
    "notes": "",
    "plot": "final",
    "measures": ["icl", "iwl"],
    "conditions": CONDITIONS,
    "search": None,
    "config": {},
}
RESULTS = {
    "preset": None, "dataset": "gaussian", "changes": {}, "seeds": [0, 1], "verdicts": {},
    "sweeps": {"map": SWEEP}, "compute_seconds": 1, "versions": {}, "runs": 5,
    "machine": {"processor": "a chip", "devices": "1 x cpu", "cores": 2, "platform": "Linux"},
}  # fmt: skip


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_means_over_seeds_lie_in_the_row_and_column_of_their_values():
    columns, rows, means_RC = sweep_map.map_of(SWEEP, "icl")
    assert (columns, rows) == ([32, 128, 512], [0.0, 1.0])
    missing = np.nan
    np.testing.assert_allclose(means_RC, [[missing, missing, 0.51], [0.61, missing, 0.82]])


def test_a_map_shows_values_missing_cells_axes_and_chance():
    figure = finding_figure("map", SWEEP, None, "gaussian")
    said = texts(figure)
    assert {"0.82", "0.61", "0.51", "0.25"} <= set(said)
    assert said.count("none") == 2 * 3
    assert {"chance 0.5", "chance 0.125", "training classes", "bursty sequences"} <= set(said)
    assert any("2 seeds" in text and "hatched" in text for text in said)
    assert not any("verdict" in text for text in said)
    assert clashes(figure) == []
    for axes in figure.axes[:2]:
        (mesh,) = axes.collections
        assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)


def test_numbers_have_enough_contrast_on_each_shade():
    values = np.linspace(0, 1, 21)
    conditions = {str(value): condition(value, 1.0, value) for value in values}
    figure = finding_figure("map", SWEEP | {"conditions": conditions}, None)
    cells = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(cells) == len(values)
    for value, cell in zip(values, cells, strict=True):
        shade, ink = (luminance(one) for one in (sweep_map.COLORS(value), cell.get_color()))
        assert (max(shade, ink) + 0.05) / (min(shade, ink) + 0.05) > 3


def luminance(color):
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_losses_have_their_own_color_range_and_no_chance():
    sweep = copy.deepcopy(SWEEP) | {"measures": ["loss"]}
    for index, one in enumerate(sweep["conditions"].values()):
        for run in one["runs"].values():
            run["final"] = {"loss": 2.0 + index}
    figure = finding_figure("map", sweep, None)
    (mesh,) = figure.axes[0].collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (2, 6)
    assert not any("chance" in text for text in texts(figure))


def test_a_map_without_runs_is_hatched():
    sweep = copy.deepcopy(SWEEP)
    for one in sweep["conditions"].values():
        one["runs"] = {}
    assert texts(finding_figure("map", sweep | {"measures": ["loss"]}, None)).count("none") == 6


def test_the_summary_shows_the_first_measure():
    figure = summary_figure(RESULTS)
    said = texts(figure)
    assert {"Classes by burstiness", "0.82", "ICL"} <= set(said)
    assert any("Claims: none." in text.replace("\n", " ") for text in said)


def test_the_color_bar_is_beside_its_map_below_a_panel_with_labels():
    above = {"zipf": make_results()["sweeps"]["zipf"]}
    figure = summary_figure(RESULTS | {"sweeps": above | {"b": SWEEP, "c": SWEEP, "below": SWEEP}})
    assert clashes(figure) == []
    for cells in figure.axes[1:4]:
        (bar,) = cells.child_axes
        assert 0 < bar.get_window_extent().x0 - cells.get_window_extent().x1 < 0.1 * figure.dpi


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_map_is_saved_in_each_format(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    style.save(finding_figure("map", SWEEP, None), path)
    if suffix == ".png":
        assert np.asarray(Image.open(path)).std() > 10
    else:
        assert path.read_bytes().startswith((b"%PDF", b"<?xml"))


def test_the_report_shows_the_map_and_all_values(tmp_path):
    style.save(finding_figure("map", SWEEP, None), tmp_path / "map.svg")
    page = report_page(RESULTS, tmp_path)
    body = page[: page.index("<script>")]
    assert "Classes by burstiness, as a picture" in body
    assert 'id="chart-0"' not in body
    for text in ("0.820 ± 0.014 (2)", "0.610 (1)", "1, 1 diverged"):
        assert text in body
