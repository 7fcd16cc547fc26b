import pytest
from layout import clashes

from emergent_icl.data.sequences.burstiness import SequenceStatistics
from emergent_icl.plots import style
from emergent_icl.plots.bursts import bursts_figure, share_text


def measured(shares, seq_len=9):
    return SequenceStatistics(
        100, seq_len, 1 - shares.get(0, 0.0), shares, {2: 1.0}, {2: 1.0}, 0.5, 0.1
    )


STATISTICS = {
    "training (bursty)": measured({0: 0.1, 3: 0.85, 4: 0.0499, 8: 0.0001}),
    "fewshot_holdout": measured({4: 1.0}),
    "no_support_zipfian": measured({0: 1.0}),
}


def test_bars_show_the_fractions():
    figure = bursts_figure(STATISTICS, "title")
    assert len(figure.axes) == 3
    for axes, expected in zip(figure.axes, STATISTICS.values(), strict=True):
        bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
        assert bars == expected.support_examples
        low, high = axes.get_xlim()
        assert low < 0
        assert high > 8
    assert figure.axes[1].get_title("left").startswith("fewshot_holdout: 8 context examples")


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("longest", [1, 64])
def test_no_text_overlaps_another(count, longest):
    statistics = {f"type {i}": measured({0: 0.5, longest: 0.5}, 65) for i in range(count)}
    assert clashes(bursts_figure(statistics, "title")) == []


def test_saving_creates_the_folder_and_the_file(tmp_path):
    style.save(bursts_figure(STATISTICS, "title"), tmp_path / "figures" / "bursts.png")
    assert (tmp_path / "figures" / "bursts.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1.0, "100%"), (0.123, "12.3%"), (1e-5, "< 0.1%"), (0.99999, "> 99.9%")],
)
def test_fractions_are_never_rounded_to_0_or_100_percent(share, text):
    assert share_text(share) == text
