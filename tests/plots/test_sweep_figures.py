"""Figures of sweeps show all measurements legibly and state what is missing."""

import copy
import functools
import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout import clashes
from made_up_results import make_results
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from scipy import stats

from emergent_icl.plots import style
from emergent_icl.plots import sweep_data as curves
from emergent_icl.plots.sweep_data import context_text
from emergent_icl.plots.sweep_figures import (
    finding_figure,
    save,
    spread,
    summary_figure,
)

RESULTS = make_results()
FINDINGS = tuple(RESULTS["sweeps"])


def drawn_finding(name, results):
    return finding_figure(name, results["sweeps"][name], results["verdicts"][name], "omniglot")


@functools.cache
def finding(name):
    """Drawn once; tests must not modify it."""
    return drawn_finding(name, RESULTS)


@functools.cache
def summary():
    """Drawn once; tests must not modify it."""
    return summary_figure(RESULTS)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def run_of(values, steps=None, diverged=None):
    curve = {"steps": list(steps or range(1, len(values) + 1)), "values": list(values)}
    return {"diverged_at_step": diverged, "curves": {"icl": curve}, "final": {"icl": values[-1]}}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder for the figures of all tests, with the summary."""
    folder = tmp_path_factory.mktemp("drawn")
    save(summary(), folder / "figures" / "summary=0.5")
    return folder


@pytest.mark.parametrize("name", [*FINDINGS, "summary"])
def test_png_and_svg_contain_the_figure(name, drawn):
    # A dot in a name is no suffix.
    stem = drawn / "figures" / f"{name}=0.5"
    if name != "summary":
        save(finding(name), stem)
    image = np.asarray(Image.open(f"{stem}.png").convert("L"))
    ink = (image < 200).mean()
    assert 0.002 < ink < 0.3
    root = ElementTree.parse(f"{stem}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10


def test_equal_results_give_equal_files(drawn, tmp_path):
    save(summary_figure(RESULTS), tmp_path / "other")
    for suffix in ("png", "svg"):
        one = drawn / "figures" / f"summary=0.5.{suffix}"
        assert one.read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()


@pytest.mark.parametrize("name", FINDINGS)
def test_no_text_of_a_finding_overlaps_another(name):
    assert clashes(finding(name)) == []


def test_no_text_of_the_summary_overlaps_another():
    assert clashes(summary()) == []


@pytest.mark.parametrize("num_conditions", [2, 24])
def test_labels_of_many_lines_with_equal_ends_do_not_overlap(num_conditions):
    runs = {str(seed): run_of([0.5, 0.9 + 0.01 * seed]) for seed in range(3)}
    conditions = {
        f"a rather long name, number {i}": {
            "value": None, "overrides": {}, "chance": {"icl": 0.5}, "runs": runs,
        }
        for i in range(num_conditions)
    }  # fmt: skip
    sweep = {"title": "T" * 200, "axis": "", "measures": ["icl"], "conditions": conditions}
    assert clashes(finding_figure("own", sweep, None)) == []


def test_one_panel_per_measure_and_one_label_per_condition():
    figure = finding("zipf")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        labels = {text.get_text() for text in axes.texts}
        assert set(RESULTS["sweeps"]["zipf"]["conditions"]) <= labels
    assert "chance" in [text.get_text() for text in figure.axes[0].texts]


def test_the_best_constant_answer_is_drawn_and_labeled_if_above_chance():
    conditions = RESULTS["sweeps"]["zipf"]["conditions"]
    said = {f"constant, {name}": one["constant"] for name, one in conditions.items()}
    for axes, measure in zip(finding("zipf").axes, ("icl", "iwl_common", "iwl_rare"), strict=True):
        expected = {text for text, one in said.items() if one[measure] > 0.02 and measure != "icl"}
        assert {text.get_text() for text in axes.texts if "constant" in text.get_text()} == expected
        levels = {float(line.get_ydata()[0]) for line in axes.lines if is_dotted(line)}
        assert {said[text][measure] for text in expected} <= levels
    assert "IWL, common, constant" in texts(summary())


def is_dotted(line):
    return len(line.get_ydata()) == 2 and line.get_linestyle() not in ("-", "None")


def test_lines_are_means_over_seeds():
    axes = finding("burstiness").axes[0]
    runs = RESULTS["sweeps"]["burstiness"]["conditions"]["p=0"]["runs"].values()
    means = np.mean([run["curves"]["icl"]["values"] for run in runs], axis=0)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), means, rtol=1e-12)


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_shows_title_verdict_and_small_print(name):
    said = texts(finding(name))
    sign = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?"}
    verdict = RESULTS["verdicts"][name]["verdict"]
    assert RESULTS["sweeps"][name]["title"] in said
    strict = " (stricter reading: ? inconclusive)" if name == "burstiness" else ""
    assert f"{sign[verdict]} {verdict}{strict}" in said
    small = " ".join(" ".join(said).split())
    assert "omniglot" in small
    assert ("No runs" if name == "variation" else "n = 5 seeds") in small


def test_missing_and_diverged_runs_are_reported_and_excluded_from_means():
    said = " ".join(" ".join(texts(finding("classes"))).split())
    assert "1 missing, 1 diverged of 25 runs" in said
    assert "Crosses" in said
    runs = [run_of([0.5, 0.6]), run_of([0.5, 0.6]), run_of([0.9], diverged=2)]
    band = curves.band(runs, "icl")
    np.testing.assert_allclose(band.mean, [0.5, 0.6])
    assert curves.finals({"runs": dict(enumerate(runs))}, "icl") == [0.6, 0.6]


def test_seeds_without_any_run_count_as_missing():
    sweep = copy.deepcopy(RESULTS["sweeps"]["burstiness"])
    before, conditions = curves.count_text(sweep), len(sweep["conditions"])
    more = curves.count_text(sweep | {"seeds": [0, 1, 2, 3, 4, 5]})
    assert before == "n = 5 seeds"
    assert more == f"n = 6 seeds ({conditions} missing of {6 * conditions} runs)"


def test_incomplete_curves_and_conditions_without_curves_are_drawn():
    results = copy.deepcopy(RESULTS)
    conditions = results["sweeps"]["burstiness"]["conditions"]
    conditions["p=0"]["runs"]["0"]["curves"]["icl"]["values"][3] = None
    conditions["p=0"]["runs"]["1"]["curves"]["icl"]["values"][-1] = math.nan
    conditions["p=0.5"]["runs"] = {}
    conditions["p=1"]["runs"]["0"].update(curves={}, final={})
    figure = drawn_finding("burstiness", results)
    assert clashes(figure) == []
    assert "No runs for p=0.5" in " ".join(texts(figure))
    assert clashes(summary_figure(results)) == []


@pytest.mark.parametrize(
    ("name", "runs", "said"),
    [
        ("transience", {}, "no runs"),
        ("zipf", {}, "no runs"),
        ("zipf", {"0": {"curves": {}, "final": {}}}, "not measured"),
        ("transience", {"0": {"diverged_at_step": 3}}, "not measured"),
    ],
)
def test_panels_without_lines_state_the_reason(name, runs, said):
    results = copy.deepcopy(RESULTS)
    for condition in results["sweeps"][name]["conditions"].values():
        # Chance is known even without runs.
        condition["chance"] = {"icl": 0.5, "iwl": 0.0007}
        condition["runs"] = runs
    figure = drawn_finding(name, results)
    assert texts(figure).count(said) == len(results["sweeps"][name]["measures"])
    summary = summary_figure(results).axes[FINDINGS.index(name)]
    assert said in [text.get_text() for text in summary.texts]


def test_any_metric_can_be_a_measure():
    runs = {"0": run_of([0.5, 0.9])}
    runs["0"]["curves"] = {"eval/flip/accuracy": runs["0"]["curves"]["icl"]}
    runs["0"]["final"] = {"eval/flip/accuracy": 0.9}
    condition = {"value": 1, "overrides": {}, "chance": {}, "runs": runs}
    sweep = {"title": "", "axis": "", "measures": ["eval/flip/accuracy"]}
    sweep |= {"conditions": {"a $b$ c": condition}}
    figure = finding_figure("own", sweep, None)
    assert {"eval/flip/accuracy", "own", "∅ no verdict"} <= set(texts(figure))
    assert r"a \$b\$ c" in texts(figure)
    summary = summary_figure(RESULTS | {"sweeps": {"own": sweep}, "verdicts": {}})
    assert "flip/accuracy" in texts(summary)


def test_markers_in_the_summary_are_single_runs():
    figure = summary()
    curves_of = figure.axes[FINDINGS.index("transience")]
    assert curves_of.lines
    assert {line.get_marker() for line in curves_of.lines} <= {"", "None", "x"}
    said = " ".join(figure.get_supxlabel().split())
    assert "Points: individual runs; lines and bars: means over seeds, bands: 95% int" in said


def test_the_summary_shows_each_run_and_each_mean():
    axes = summary().axes[0]
    conditions = RESULTS["sweeps"]["burstiness"]["conditions"].values()
    dots, line = axes.lines[0], axes.lines[1]
    ends = [[run["final"]["icl"] for run in one["runs"].values()] for one in conditions]
    np.testing.assert_allclose(dots.get_ydata(), np.concatenate(ends))
    np.testing.assert_allclose(line.get_ydata(), np.mean(ends, axis=1))


def test_the_summary_shows_losses_only_where_there_is_no_accuracy():
    for measures, labels in ((["icl", "loss"], {"ICL"}), (["loss"], {"loss"})):
        sweep = copy.deepcopy(RESULTS["sweeps"]["burstiness"]) | {"measures": measures}
        for condition in sweep["conditions"].values():
            for run in condition["runs"].values():
                run["final"]["loss"] = 7.0
        drawn = summary_figure(RESULTS | {"sweeps": {"burstiness": sweep}})
        assert {text.get_text() for text in drawn.axes[0].texts} & {"ICL", "loss"} == labels


def test_transience_is_summarized_over_training():
    axes = summary().axes[FINDINGS.index("transience")]
    assert axes.get_xlabel() == "training step"
    assert axes.get_xlim() == (0, 500_000)


def test_a_summary_without_results_is_drawn():
    assert "0 of 0 findings reproduced" in texts(
        summary_figure(RESULTS | {"sweeps": {}, "verdicts": {}})
    )
    assert context_text(RESULTS) == "omniglot, preset 'laptop'"


# Positions of labels.


@given(
    st.lists(st.floats(-2, 2), min_size=1, max_size=11),
    st.floats(0, 0.09),
)
def test_labels_keep_their_distance_and_order_within_the_axes(wanted, gap):
    places = spread(wanted, gap)
    assert len(places) == len(wanted)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    assert (np.diff([places[i] for i in order]) >= gap - 1e-9).all()


def test_labels_move_only_if_they_are_too_close():
    assert spread([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert spread([0.2, 0.2, 0.9], 1 / 3) == pytest.approx([1 / 6, 1 / 2, 5 / 6])


# Bands.


@given(
    st.lists(st.lists(st.floats(0.4, 0.6), min_size=3, max_size=3), min_size=2, max_size=6).filter(
        lambda values: np.ptp(values, axis=0).min() > 1e-6
    )
)
def test_bands_are_t_intervals(values):
    band = curves.band([run_of(run) for run in values], "icl")
    array = np.asarray(values)
    spread_of_mean = stats.sem(array)
    np.testing.assert_allclose(band.mean, array.mean(axis=0))
    half = stats.t.ppf(0.975, len(values) - 1) * spread_of_mean
    np.testing.assert_allclose(band.high, np.minimum(band.mean + half, 1), atol=1e-12)
    np.testing.assert_allclose(band.low, np.maximum(band.mean - half, 0), atol=1e-12)


def test_bands_of_equal_runs_or_shared_sequences_include_the_sampling_error():
    drawn = [{"evaluation_seed": seed, "num_sequences": 1000} for seed in (0, 0, 1, 2)]
    runs = [run_of([0.5, 0.5]) | about for about in drawn]
    shared, own = (curves.band(some, "icl") for some in (runs[:2], runs[1:]))
    assert [high - low for low, high in zip(shared.low, shared.high, strict=True)] == (
        pytest.approx([0.062] * 2, abs=1e-3)
    )
    assert own.high[0] - own.low[0] == pytest.approx(0.062 / np.sqrt(3), abs=1e-3)
    # An unknown interval is not drawn.
    assert math.isnan(curves.band([run_of([0.5])] * 2, "icl").low[0])


def test_bands_have_the_steps_that_all_runs_have():
    # An extended run keeps the evaluation at its former end.
    extended = run_of([0.9, 0.9, 0.3, 0.2], [1, 1.5, 2, 3])
    unmeasured = run_of([math.nan, math.nan])
    band = curves.band([extended, run_of([0.3, 0.4]), unmeasured], "icl")
    assert band.steps == [1, 2]
    np.testing.assert_allclose(band.mean, [0.6, 0.35])
    assert not any(map(math.isnan, band.low))


def test_bands_are_limited_to_0_and_1_for_accuracies_but_not_for_losses():
    runs = [run_of([0.0]), run_of([1.0])]
    assert (curves.band(runs, "icl").low, curves.band(runs, "icl").high) == ([0.0], [1.0])
    for run in runs:
        run["curves"]["loss"] = run["curves"]["icl"]
    band = curves.band(runs, "loss")
    assert band.low[0] < 0
    assert band.high[0] > 1


# Looks.


def contrast_with_white(color):
    """Contrast ratio of WCAG 2, in [1, 21]."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(color)
    ]
    return 1.05 / (np.dot((0.2126, 0.7152, 0.0722), linear) + 0.05)


def conditions_of(*values):
    return {f"c{i}": {"value": value, "runs": {}} for i, value in enumerate(values)}


@pytest.mark.parametrize("values", [(0.0, 1.0), range(9), (None,) * 7])
def test_colors_are_distinct_and_their_text_has_enough_contrast(values):
    looks = curves.looks(conditions_of(*values))
    assert len(set(looks.values())) == len(values)
    for look in looks.values():
        assert contrast_with_white(look.color) > 1.8
        assert contrast_with_white(style.readable(look.color)) >= 4.5


@pytest.mark.parametrize("look", curves.LOOKS.values())
def test_names_of_measures_have_enough_contrast(look):
    assert contrast_with_white(style.readable(look.color)) >= 4.5


def test_colors_of_ordered_conditions_go_from_dark_to_light():
    looks = curves.looks(conditions_of(3.0, 1.0, 2.0))
    assert list(looks) == ["c1", "c2", "c0"]
    contrasts = [contrast_with_white(look.color) for look in looks.values()]
    assert contrasts == sorted(contrasts, reverse=True)


def test_neighboring_categories_differ_in_gray_or_dashes():
    looks = list(curves.looks(conditions_of(*(None,) * 7)).values())
    for one, other in itertools.pairwise(looks):
        assert one.dashes != other.dashes
        assert one.marker != other.marker


@pytest.mark.parametrize(
    ("values", "how", "places"),
    [
        ((0.0, 0.5, 1.0), "linear", [0, 0.5, 1]),
        ((100.0, 200.0, 400.0, 1600.0), "log", [0, 0.25, 0.5, 1]),
        ((0.0, 0.001, 1.0), "in order", [0, 0.5, 1]),
        ((None, None), "in order", [0, 1]),
        ((2.0,), "in order", [0.5]),
        ((1.0, 1.0), "in order", [0, 1]),
    ],
)
def test_conditions_lie_on_a_linear_or_log_axis_or_at_equal_distances(values, how, places):
    found, found_how = curves.axis_places(conditions_of(*values))
    assert found_how == how
    np.testing.assert_allclose(found, places, atol=1e-12)


def test_measures_of_one_figure_have_different_looks():
    own = ["eval/flip/predicts_own_label", "eval/flip/accuracy_closed", "eval/flip/accuracy"]
    looks = curves.measure_looks(["icl", "iwl_rare", *own])
    assert len({look.color for look in looks.values()}) == 5
    assert [looks[name].long for name in own] == own
    assert looks["icl"] == curves.look_of("icl") == curves.LOOKS["icl"]


def test_an_axis_of_numbers_in_order_is_said_not_to_be_to_scale():
    results = copy.deepcopy(RESULTS)
    burstiness = results["sweeps"]["burstiness"]
    for index, one in enumerate(burstiness["conditions"].values()):
        one["value"] = 0.001 * index if index < 3 else index
    said = [axes.get_xlabel() for axes in summary_figure(results).axes]
    assert f"{burstiness['axis']} (not to scale)" in said


def test_accuracies_and_shares_lie_in_0_to_1_but_losses_do_not():
    shares = ["icl", "iwl_rare", "eval/flip/accuracy_closed", "eval/flip/predicts_common"]
    assert all(map(curves.is_share, shares))
    assert not any(map(curves.is_share, ["loss", "train/loss", "eval/flip/loss"]))
