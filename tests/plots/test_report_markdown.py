"""Blocks of Markdown pages are generated from results; the rest of a page is unchanged."""

import json

import numpy as np
import pytest
from made_up_results import make_results

from emergent_icl.cli.pages import filled
from emergent_icl.plots.report import BLOCKS, fill
from emergent_icl.plots.sweep_tables import UNKNOWN

RESULTS = json.loads(json.dumps(make_results()))
PAGE = "# Title\n" + "".join(
    f"<!-- results: {name} -->\nold text\n<!-- /results -->\nkept: {name}\n" for name in BLOCKS
)


@pytest.fixture(scope="module")
def page():
    return fill(PAGE, RESULTS, "pictures")


def test_blocks_are_regenerated_and_the_rest_is_unchanged(page):
    assert "old text" not in page
    assert page.startswith("# Title\n<!-- results: ")
    assert all(f"kept: {name}\n" in page for name in BLOCKS)
    assert fill(page, RESULTS, "pictures") == page


@pytest.mark.parametrize("name", RESULTS["verdicts"])
def test_verdicts_are_listed_with_checks_and_numbers(page, name):
    found = RESULTS["verdicts"][name]
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} | "))
    assert f" {found['verdict']} " in row
    assert f" | **{found['claim']}**" in row
    for check in found["statistics"]:
        assert check["check"] in row
        assert check["reason"] in row
        assert all(one in row for one in check["numbers"] if "%" not in one)


def test_each_table_of_verdicts_states_the_number_of_claims(page):
    for name in ("verdicts", "checks"):
        block = page.split(f"<!-- results: {name} -->")[1].split("<!-- /results -->")[0]
        text, table, *_ = block.strip().split("\n\n")
        assert text.startswith("7 claims, judged together.")
        assert table.startswith("| finding | verdict | ")


def test_verdicts_under_the_older_rule_show_the_stricter_reading(page):
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    for name in ("| Burstiness", "| burstiness"):
        assert "| ✓ reproduced (stricter reading: ? inconclusive) |" in rows[name]
    assert "p = 0.0123, adjusted for 7 claims = 0.0861" in rows["| burstiness"]
    assert "| ✓ reproduced |" in rows["| Number of classes"]
    assert "tricter" not in rows["| classes"]


def test_the_best_constant_answer_is_shown_beside_the_measured_accuracy(page):
    (row,) = (line for line in page.splitlines() if line.startswith("| exponent=2 |"))
    assert "(5), constant answer 0.608 |" in row
    assert row.count("constant") == 1


@pytest.mark.parametrize("name", RESULTS["sweeps"])
def test_means_exclude_diverged_runs(page, name):
    sweep = RESULTS["sweeps"][name]
    section = page.split(f"### {sweep['title']}\n")[1].split("###")[0]
    assert f"(pictures/{name}.png)" in section
    assert sweep["notes"] in section
    for condition, one in sweep["conditions"].items():
        ends = [
            run["final"]["icl"] for run in one["runs"].values() if run["diverged_at_step"] is None
        ]
        text = (
            f"{np.mean(ends):.3f} ± {np.std(ends, ddof=1):.3f} ({len(ends)})" if ends else UNKNOWN
        )
        assert f"| {condition} | {text} | " in section


def test_the_origin_names_the_devices_of_the_runs_and_the_machine_that_judged():
    block = "<!-- results: origin -->\n<!-- /results -->"
    machine = {"processor": "Judge", "cores": 3, "devices": "4 x GPU", "platform": "Linux"}
    changed = RESULTS | {"machine": machine, "runs": 7, "compute_seconds": 3 * 3600}
    text = fill(block, changed | {"preset": "laptop", "changes": {"a.b": 1}}, ".")
    assert "7 runs, including searches, of omniglot, preset 'laptop', a.b=1, seeds 0, 1, 2" in text
    assert (
        "3 h 00 min of computing on 4 x GPU each. Judged by emergent-icl 1.0.0 on Judge (3 cores)."
        in text
    )
    # A user's own sweeps have no preset.
    assert "omniglot, seeds 0" in fill(block, changed | {"preset": None, "changes": {}}, ".")


def test_the_origin_states_what_replicates_share_by_sweep():
    block = "<!-- results: origin -->\n<!-- /results -->"
    changed = json.loads(json.dumps(RESULTS))
    for name, sweep in changed["sweeps"].items():
        is_other = name == "transience"
        sweep["seeds"] = list(range(100, 112 if is_other else 108))
        sweep["split"] = "fixed" if is_other else "replicate"
    assert (
        "seeds 100 to 107 (each seed has its own class split and evaluation sequences); "
        "transience: seeds 100 to 111 (all seeds share one class split and one set of "
        "evaluation sequences):"
    ) in fill(block, changed, ".")


def test_vertical_bars_in_texts_are_escaped():
    changed = json.loads(json.dumps(RESULTS))
    changed["verdicts"]["burstiness"]["claim"] = "A | B"
    block = "<!-- results: verdicts -->\n<!-- /results -->"
    row = next(line for line in fill(block, changed, ".").splitlines() if "A \\| B" in line)
    assert row.replace("\\|", "").count("|") == 4


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- results: verdict -->\n<!-- /results -->", r"no block 'verdict' \(allowed: verdicts"),
        ("<!-- results: verdicts -->\n", "needs a '<!-- /results -->'"),
        ("<!-- /results -->\n", "needs a '<!-- /results -->'"),
    ],
)
def test_invalid_blocks_are_reported_and_the_page_is_unchanged(page, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fill(page, RESULTS, ".")
    results, path = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text(json.dumps(RESULTS))
    path.write_text(page)
    with pytest.raises(ValueError, match=r"page\.md: .*" + said):
        filled(path, results)
    assert path.read_text() == page


def test_a_file_without_results_is_named(tmp_path):
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text('{"sweeps": {}}')
    page.write_text("<!-- results: verdicts -->\n<!-- /results -->\n")
    with pytest.raises(ValueError, match=r"results\.json lacks verdicts: is it a results.json"):
        filled(page, results)
