"""What pages say of a reproduction is written from its results, and nothing else of them is."""

import json

import numpy as np
import pytest
from made_up_results import make_results

from emergent_icl.cli.pages import filled
from emergent_icl.plots.report import BLOCKS, fill
from emergent_icl.plots.sweep_tables import UNKNOWN

RESULTS = json.loads(json.dumps(make_results()))
PAGE = "# Title\n" + "".join(
    f"<!-- results: {name} -->\nwhat stood here\n<!-- /results -->\nkept: {name}\n"
    for name in BLOCKS
)


@pytest.fixture(scope="module")
def page():
    return fill(PAGE, RESULTS, "pictures")


def test_what_stands_between_marks_is_new_and_the_rest_is_kept(page):
    assert "what stood here" not in page
    assert page.startswith("# Title\n<!-- results: ")
    assert all(f"kept: {name}\n" in page for name in BLOCKS)
    assert fill(page, RESULTS, "pictures") == page


@pytest.mark.parametrize("name", RESULTS["verdicts"])
def test_verdicts_come_with_their_checks_and_numbers(page, name):
    found = RESULTS["verdicts"][name]
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} | "))
    assert f" {found['verdict']} " in row
    assert f" | **{found['claim']}**" in row
    for check in found["statistics"]:
        assert check["check"] in row
        assert check["reason"] in row
        assert all(one in row for one in check["numbers"] if "%" not in one)


def test_the_number_of_claims_stands_above_every_table_of_verdicts(page):
    for name in ("verdicts", "checks"):
        block = page.split(f"<!-- results: {name} -->")[1].split("<!-- /results -->")[0]
        text, table, *_ = block.strip().split("\n\n")
        assert text.startswith("7 claims, judged as one family.")
        assert table.startswith("| finding | verdict | ")


def test_the_stricter_reading_stands_beside_a_verdict_of_an_older_rule(page):
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    for name in ("| Burstiness", "| burstiness"):
        assert "| ✓ reproduced (stricter reading: ? inconclusive) |" in rows[name]
    assert "p = 0.0123, adjusted for 7 claims = 0.0861" in rows["| burstiness"]
    assert "| ✓ reproduced |" in rows["| Number of classes"]
    assert "tricter" not in rows["| classes"]


def test_the_best_constant_answer_stands_beside_what_it_is_compared_with(page):
    (row,) = (line for line in page.splitlines() if line.startswith("| exponent=2 |"))
    assert "(5), constant answer 0.608 |" in row
    assert row.count("constant") == 1


@pytest.mark.parametrize("name", RESULTS["sweeps"])
def test_means_are_those_of_the_runs_that_did_not_diverge(page, name):
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


def test_the_origin_tells_the_runs_devices_from_the_judges_machine():
    block = "<!-- results: origin -->\n<!-- /results -->"
    machine = {"processor": "Judge", "cores": 3, "devices": "4 x GPU", "platform": "Linux"}
    changed = RESULTS | {"machine": machine, "runs": 7, "compute_seconds": 3 * 3600}
    text = fill(block, changed | {"preset": "laptop", "changes": {"a.b": 1}}, ".")
    assert "7 runs, including searches, of omniglot, preset 'laptop', a.b=1, seeds 0, 1, 2" in text
    assert "3 h 00 min of computing on 4 x GPU each; judged on Judge (3 cores)." in text
    # Sweeps that are not the paper's have no preset.
    assert "omniglot, seeds 0" in fill(block, changed | {"preset": None, "changes": {}}, ".")


def test_the_origin_says_what_replicates_share_and_which_sweeps_differ():
    block = "<!-- results: origin -->\n<!-- /results -->"
    changed = json.loads(json.dumps(RESULTS))
    for name, sweep in changed["sweeps"].items():
        is_odd = name == "transience"
        sweep["seeds"] = list(range(100, 112 if is_odd else 108))
        sweep["split"] = "fixed" if is_odd else "replicate"
    assert (
        "seeds 100 to 107 (each seed has its own class split and evaluation sequences); "
        "transience: seeds 100 to 111 (all seeds share one class split and one set of "
        "evaluation sequences):"
    ) in fill(block, changed, ".")


def test_a_bar_in_a_name_does_not_end_its_cell():
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
def test_a_page_that_cannot_be_filled_says_why(page, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fill(page, RESULTS, ".")
    results, path = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text(json.dumps(RESULTS))
    path.write_text(page)
    with pytest.raises(ValueError, match=r"page\.md: .*" + said):
        filled(path, results)
    assert path.read_text() == page
