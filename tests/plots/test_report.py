"""The report is complete and self-contained, escapes all texts, and draws every chart."""

import copy
import json

import browser
import pytest
from browser import PageReader
from made_up_results import make_results
from plotly.offline import get_plotlyjs

from emergent_icl.plots import sweep_data as curves
from emergent_icl.plots import sweep_tables as tables
from emergent_icl.plots.charts import chart, chart_text
from emergent_icl.plots.report import BLOCKS, fill, report_page
from emergent_icl.plots.sweep_figures import save, summary_figure
from emergent_icl.runs.workdir import write_whole

RESULTS = make_results()
# Number of panels of each chart; "variation" has no runs.
PANELS = [2, 2, 2, 3, 2, 2]
HOSTILE = (
    "</script><script>document.body.innerHTML='gone';throw 'x'</script><img src=http://x/> %{x}"
)

# A browser is optional: other tests of the report need none. CI installs one.
needs_browser = pytest.mark.skipif(
    browser.find_browser() is None, reason=f"none of {', '.join(browser.NAMES)} is on PATH"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The path of a report with its figures."""
    folder = tmp_path_factory.mktemp("report")
    save(summary_figure(RESULTS), folder / "figures" / "summary")
    # For readers without scripts.
    (folder / "figures" / "classes.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    path = folder / "made" / "report.html"
    write_whole(path, report_page(RESULTS, folder / "figures"))
    return path


@pytest.fixture(scope="module")
def read(page):
    return PageReader(page.read_text("utf-8"))


def hostile_results():
    """The same results with a script injection in each name and text."""
    results = copy.deepcopy(RESULTS)
    sweep = results["sweeps"].pop("burstiness")
    verdict = results["verdicts"].pop("burstiness")
    sweep |= {"title": HOSTILE, "axis": HOSTILE, "notes": HOSTILE, "measures": ["icl", HOSTILE]}
    sweep["config"] = {HOSTILE: HOSTILE}
    condition = sweep["conditions"].pop("p=0")
    condition["overrides"] = {HOSTILE: [HOSTILE]}
    for run in condition["runs"].values():
        run["workdir"] = run["replica"] = HOSTILE
        run["curves"][HOSTILE] = run["curves"]["iwl"]
    condition["runs"] = {f"{seed}{HOSTILE}": run for seed, run in condition["runs"].items()}
    sweep["conditions"][HOSTILE] = condition
    draw = {"overrides": {HOSTILE: HOSTILE}, "final": {}}
    sweep["search"] = {HOSTILE: {"chosen": HOSTILE, "draws": {HOSTILE: draw}}}
    verdict |= {"verdict": HOSTILE, "claim": HOSTILE}
    check = {"check": HOSTILE, "outcome": HOSTILE, "numbers": {HOSTILE: 1.0}, "reason": HOSTILE}
    verdict["statistics"] = [check]
    return {
        **results,
        "sweeps": {HOSTILE: sweep},
        "verdicts": {HOSTILE: verdict},
        "machine": {"processor": HOSTILE, "devices": HOSTILE},
        "versions": {HOSTILE: HOSTILE},
        "dataset": HOSTILE,
        "preset": HOSTILE,
        "seeds": [HOSTILE],
    }


# Content of the file.


def test_the_report_contains_all_results(read):
    assert "4 of 7 findings reproduced" in read.text
    for name, sweep in RESULTS["sweeps"].items():
        verdict = RESULTS["verdicts"][name]
        assert sweep["title"] in read.text
        assert verdict["claim"] in read.text
        for one in verdict["statistics"]:
            assert one["check"] in read.text
            assert one["reason"] in read.text
        for condition in sweep["conditions"]:
            assert condition in read.text
    assert "training.learning_rate 0.0003" in read.text
    assert "Some Processor 7000" in read.text
    assert "3 h 26 min" in read.text
    assert "emergent-icl 1.0.0" in read.text


def test_the_report_states_the_number_of_claims_and_stricter_readings(read):
    assert "7 claims, judged together." in read.text
    # In the table of verdicts, and with the finding.
    assert read.text.count("✓ reproduced (stricter reading: ? inconclusive)") == 2
    assert read.text.count("(stricter reading:") == 2
    assert "p = 0.0123, adjusted for 7 claims = 0.0861" in read.text


def test_each_verdict_has_a_sign_and_a_link_to_its_finding(read):
    for sign, verdict in (("✓", "reproduced"), ("✗", "not reproduced"), ("?", "inconclusive")):
        assert f"{sign} {verdict}" in read.text
    targets = {values["id"] for _, values in read.tags if "id" in values}
    links = [values["href"] for tag, values in read.tags if tag == "a"]
    assert len(links) == 7
    assert {link.removeprefix("#") for link in links} <= targets


def test_means_and_deviations_exclude_diverged_runs(read):
    # One run of classes=400 is missing; one of classes=800 diverged.
    rows = {row.name: row for row in tables.condition_rows(RESULTS["sweeps"]["classes"])}
    assert all(end.endswith(" (4)") for end in rows["classes=400"].ends)
    assert (rows["classes=400"].runs, rows["classes=800"].runs) == ("4", "5, 1 diverged")
    assert rows["classes=400"].overrides == ("data.split.num_rare = 400",)
    assert "(4) 4 data.split.num_rare = 400" in read.text
    assert tables.mean_text([0.25, 0.75]) == "0.500 ± 0.354 (2)"
    assert tables.mean_text([0.25]) == "0.250 (1)"
    assert "diverged at step 30,100" in read.text
    assert "No runs." in read.text


def test_searches_list_their_draws_and_the_chosen_ones(read):
    assert "Search for settings (8 draws)" in read.text
    assert "Draws for vanilla_rnn; none was chosen" in read.text
    assert read.text.count("✓ chosen") == 2
    assert read.text.count("diverged at step 4,000") == 2


def test_tables_have_headers_and_captions(read):
    tags = [tag for tag, _ in read.tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead")
    scopes = [values.get("scope") for tag, values in read.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}


def test_the_file_is_self_contained(page, read):
    text = page.read_text("utf-8")
    assert text.count(get_plotlyjs()) == 1
    outside = [address for address in read.fetched if not address.startswith("data:")]
    assert outside == []
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]
    policies = [values for tag, values in read.tags if "http-equiv" in values]
    assert policies[0]["content"].startswith("default-src 'none'")


def test_existing_figures_are_embedded(read):
    pictures = [values for tag, values in read.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(one["src"].startswith("data:image/svg+xml;base64,") for one in pictures)
    assert all(one["alt"] for one in pictures)
    assert not [tag for tag, _ in PageReader(report_page(RESULTS, None)).tags if tag == "img"]


def test_a_finding_may_lack_its_sweep_or_its_verdict():
    results = copy.deepcopy(RESULTS)
    del results["sweeps"]["zipf"], results["verdicts"]["burstiness"]
    text = PageReader(report_page(results, None)).text
    assert "Not run." in text
    assert "∅ no verdict" in text


def test_runs_without_curves_are_not_reported_as_missing():
    results = copy.deepcopy(RESULTS)
    for condition in results["sweeps"]["zipf"]["conditions"].values():
        for run in condition["runs"].values():
            run["curves"] = {}
    assert "The runs recorded no curves" in PageReader(report_page(results, None)).text


def test_names_and_texts_of_results_are_escaped():
    page = PageReader(report_page(hostile_results(), None))
    plain = PageReader(report_page(RESULTS, None))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    # Title, headline, and tables show the text itself.
    assert HOSTILE in page.text
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert page.fetched == []


@pytest.mark.parametrize("block", BLOCKS)
def test_names_and_texts_are_escaped_in_markdown(block):
    results = hostile_results()
    results["machine"] |= {"cores": HOSTILE}
    text = fill(f"<!-- results: {block} -->\n<!-- /results -->", results, ".")
    tags = {tag for tag, _ in PageReader(text).tags}
    assert tags <= {"br"}
    assert "gone" in text


def test_charts_are_json_without_markup():
    page = PageReader(report_page(hostile_results(), None))
    text = page.scripts[0]
    assert not set("<>&\u2028") & set(text)
    # Plotly would interpret markup.
    assert HOSTILE not in json.dumps(json.loads(text))
    assert chart_text("<b> & %{x}") == "&lt;b&gt; &amp; &#37;{x}"


def test_charts_contain_means_bands_and_the_value_of_each_seed():
    drawn = chart(RESULTS["sweeps"]["burstiness"])
    named = [trace for trace in drawn["data"] if trace.get("showlegend")]
    assert [trace["name"] for trace in named] == list(RESULTS["sweeps"]["burstiness"]["conditions"])
    means = [trace for trace in drawn["data"] if "customdata" in trace]
    assert len(means) == 12
    low, high, *seeds = means[0]["customdata"][10]
    assert low < means[0]["y"][10] < high
    assert means[0]["y"][10] == pytest.approx(sum(seeds) / len(seeds), abs=1e-4)
    groups = {trace["name"]: set() for trace in means}
    for trace in means:
        groups[trace["name"]].add(trace["legendgroup"])
    assert all(len(group) == 1 for group in groups.values())
    assert len(set.union(*groups.values())) == 6


def test_a_step_that_some_runs_lack_is_not_drawn():
    sweep = copy.deepcopy(RESULTS["sweeps"]["transience"])
    sweep["measures"] = ["icl"]
    runs = sweep["conditions"]["uniform"]["runs"]
    for seed, run in runs.items():
        run["curves"]["icl"] = {"steps": [1, 2, 3, 4], "values": [0.1 * int(seed)] * 4}
        if seed != "0":
            run["curves"]["icl"]["values"][1] = None
    data = chart(sweep)["data"]
    outline = next(trace for trace in data if trace.get("fill") == "toself")
    assert outline["x"] == [1, 3, 4, 4, 3, 1]
    mean = next(trace for trace in data if "customdata" in trace)
    assert (mean["x"], mean["mode"]) == ([1, 3, 4], "lines")


def test_a_single_run_has_no_band_and_a_single_evaluation_has_a_marker():
    sweep = copy.deepcopy(RESULTS["sweeps"]["transience"])
    sweep["measures"] = ["icl"]
    runs = sweep["conditions"]["uniform"]["runs"]
    run = runs["0"] | {"curves": {"icl": {"steps": [7], "values": [0.75]}}}
    sweep["conditions"] = {"uniform": sweep["conditions"]["uniform"] | {"runs": {"0": run}}}
    outline, mean = chart(sweep)["data"][-2:]
    assert outline["x"] == []
    assert (mean["mode"], mean["x"], mean["y"]) == ("lines+markers", [7], [0.75])
    assert mean["customdata"] == [["–", "–", 0.75]]  # noqa: RUF001


def test_dotted_levels_are_named_in_the_caption():
    page = report_page(RESULTS, None)
    assert "fine dots: chance" in page
    assert ("always predicting its most frequent label" in page) == any(
        map(curves.has_constants, RESULTS["sweeps"].values())
    )


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0496, "= 0.0496"), (0.04996, "= 0.04996"), (0.05, "= 0.05"), (0.0504, "= 0.0504")],
)
def test_p_is_not_rounded_to_the_threshold(p, text):
    assert tables.numbers_text({"p": p}).replace("\N{NO-BREAK SPACE}", " ") == f"p {text}"


def test_the_p_of_a_claim_with_missing_runs_is_not_shown():
    results = copy.deepcopy(RESULTS)
    (name, verdict), *_ = results["verdicts"].items()
    said = {row.name: row.family for row in tables.finding_rows(results)}
    assert "adjusted for" in said[name]
    del verdict["statistics"][0]["numbers"]["p"]
    said = {row.name: row.family for row in tables.finding_rows(results)}
    assert said[name] == "p not computed"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({"difference": 0.4123, "difference, 95 %": [0.36, 0.45], "p": 0.0079365},
         "difference 0.412 [0.36, 0.45], p = 0.0079"),
        ({"rho": -0.97, "p": 5e-05}, "rho −0.97, p < 0.0001"),  # noqa: RUF001
        ({"difference": 0.1, "difference, 95 %": [float("-inf"), float("inf")], "p": None},
         "difference 0.1 [−∞, ∞], p = unknown"),  # noqa: RUF001
        ({}, ""),
        ({"best condition": "alpha=1", "mean": 1 / 3}, "best condition alpha=1, mean 0.333"),
    ],
)  # fmt: skip
def test_numbers_are_formatted_in_one_line(numbers, text):
    assert tables.numbers_text(numbers).replace("\N{NO-BREAK SPACE}", " ") == text


# In a browser.


@pytest.mark.browser
@needs_browser
def test_each_chart_is_drawn_without_console_messages(page, tmp_path):
    assert browser.problems(page, PANELS, tmp_path) == []


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("Plotly.react(", "Plotly.rect(", "Uncaught"),
        ("displaylogo: false", "displaylogo false", "SyntaxError"),
        ('"type": "scatter"', '"type": "pie"', "panels"),
        ("<main>", '<main><img src="http://example.com/x.png" alt="">', "Content Security Policy"),
    ],
)
def test_the_browser_check_notices_a_broken_page(page, tmp_path, old, new, found):
    text = page.read_text("utf-8")
    assert old in text
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace(old, new), "utf-8")
    messages = " ".join(browser.problems(broken, PANELS, tmp_path))
    assert found in messages


@pytest.mark.browser
@needs_browser
def test_injected_scripts_are_shown_but_do_not_run(tmp_path):
    write_whole(tmp_path / "report.html", report_page(hostile_results(), None))
    assert browser.problems(tmp_path / "report.html", [2], tmp_path) == []
    probe = "[...document.querySelectorAll('.chart text')].map((text) => text.textContent)"
    texts, _ = browser.visit(tmp_path / "report.html", probe, tmp_path)
    # The legend shows the text itself.
    assert HOSTILE in texts


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_any_width_without_horizontal_scrolling(page, tmp_path, width):
    widths, _ = browser.visit(page, browser.WIDTHS, tmp_path, width)
    assert widths == {"page": width, "window": width}


CLICK = """
(async () => {
  const chart = document.getElementById("chart-0");
  const name = chart.querySelector(".legendtoggle");
  const { left, top } = name.getBoundingClientRect();
  const at = { bubbles: true, clientX: left + 3, clientY: top + 3, button: 0, buttons: 1 };
  name.dispatchEvent(new MouseEvent("mousedown", at));
  name.dispatchEvent(new MouseEvent("mouseup", at));
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return chart.data.map((trace) => [trace.name, trace.visible ?? true, trace.xaxis]);
})()
"""


@pytest.mark.browser
@needs_browser
def test_a_click_on_a_name_hides_its_condition_in_all_panels(page, tmp_path):
    traces, messages = browser.visit(page, CLICK, tmp_path)
    assert messages == []
    hidden = {(name, axis) for name, visible, axis in traces if visible == "legendonly"}
    assert hidden == {("p=0", "x"), ("p=0", "x2")}
