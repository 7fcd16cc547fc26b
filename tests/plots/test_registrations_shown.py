"""Each verdict is shown with the status of its registration."""

import json

from made_up_results import make_results

from emergent_icl.plots import sweep_data
from emergent_icl.plots.report import fill, report_page
from emergent_icl.plots.sweep_figures import summary_figure
from emergent_icl.sweeps.registration import CHANGED


def results_with(registration):
    return json.loads(json.dumps(make_results() | {"registration": registration}))


def test_tables_and_the_summary_name_the_claims_that_changed():
    date = "registered on 2026-11-28 as 0123456789ab"
    marks = dict.fromkeys(make_results()["verdicts"], date)
    marks["zipf"] = f"{CHANGED}seeds: [0] registered, [0, 1] now"
    results = results_with(
        {
            "hash": "0123456789abcdef" * 4, "registered": "2026-11-28T18:50:00Z",
            "commit": "c0ffee", "status": marks,
        }
    )  # fmt: skip
    page = fill("<!-- results: checks -->\n<!-- /results -->", results, ".")
    rows = {line.split(" | ")[0]: line for line in page.splitlines()}
    assert rows["| zipf"].endswith(f"<br>{marks['zipf']} |")
    assert rows["| classes"].endswith(f"<br>{date} |")
    report = report_page(results, None)
    # In full with its finding, abbreviated in the table of verdicts.
    assert report.count(CHANGED.removesuffix(": ")) == 2
    assert report.count(marks["zipf"]) == 1
    assert report.count(date) == 12
    assert "<dt>Registered</dt><dd>2026-11-28T18:50:00Z</dd>" in report
    assert "<dt>Registered at commit</dt><dd>c0ffee</dd>" in report
    line = sweep_data.registrations_text(results)
    assert line == f"Claims: {date}; zipf: changed after registration"
    assert f"{line}." in " ".join(summary_figure(results).get_supxlabel().split())
    assert f"{line}." in fill("<!-- results: verdicts -->\n<!-- /results -->", results, ".")


def test_results_of_earlier_versions_are_shown_as_not_registered():
    results = json.loads(json.dumps(make_results()))
    assert sweep_data.registrations_text(results) == "Claims: not registered"
    assert "not registered |" in fill("<!-- results: checks -->\n<!-- /results -->", results, ".")
