"""Progress of a run: a bar on a terminal, lines elsewhere."""

import io
import itertools

import pytest
from rich.console import Console

from emergent_icl.cli import console, progress, sweep_display
from emergent_icl.data.ticks import listening, ticking

FACTS = {
    "experiment": "tiny", "data": "symbolic", "labels": 4, "model": "rnn", "initial": "",
    "devices": "1 x cpu", "feeder": "python", "first_step": 0, "last_step": 100,
    "lengths": "", "keeps": "data.sequences.draws = 1, as stored", "replicas": "",
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def shown(request, monkeypatch):
    """Whether output is a terminal, and a function that returns the output."""
    stream = io.StringIO()
    to = Console(file=stream, force_terminal=request.param, width=150, highlight=False)
    monkeypatch.setattr(console, "CONSOLE", to)
    return request.param, stream.getvalue


def test_training_is_a_bar_or_lines(shown):
    is_terminal, text = shown
    display = progress.TrainingDisplay(0.0)
    display.started(FACTS)
    for step in (5, 7, 100):
        display.advanced(step)
        numbers = {"train/loss": step / 10, "steps_per_second": 2.0, "sequences_per_second": 8.0}
        display.logged(step, {"": numbers})
    display.close()
    assert "experiment  tiny" in text()
    assert "keeps  data.sequences.draws = 1, as stored" in text()
    assert "compiled" in text()
    assert "loss 10.000  2.0 steps/s  8 sequences/s" in text()
    assert ("\x1b" in text()) == is_terminal
    # One line per twentieth of the run.
    assert ("step       5/100  loss 0.500" in text()) != is_terminal
    assert "48 s left" in text() or is_terminal
    assert "step       7/100" not in text()


def test_the_range_over_replicas_is_shown(shown):
    is_terminal, text = shown
    display = progress.TrainingDisplay(0.0)
    display.started(FACTS | {"replicas": "a, b, c"})
    display.logged(100, {name: {"train/loss": float(i)} for i, name in enumerate("abc")})
    assert is_terminal or "loss 0.000..2.000" in text()
    display.diverged("c", 100, 3.25)
    display.logged(100, {"a": {}})
    display.close()
    assert is_terminal or "loss 0.000..1.000" in text()
    said = "'c' diverged at step 100; the others continue (last finite loss: 3.25)"
    assert said in text()


def test_a_sweep_is_a_bar_or_lines(shown):
    is_terminal, text = shown
    display = sweep_display.SweepDisplay([], 2)
    with display.bar:
        display.polled([])
    assert "0 programs of 0 runs, 0 complete; 2 at a time" in text()
    assert ("all runs" in text() and "0/0 programs" in text()) == is_terminal


def test_long_work_is_a_bar_or_lines(shown, monkeypatch):
    is_terminal, text = shown
    seconds = itertools.count(step=20)
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(seconds)))
    with console._LongWork() as work, listening(work):
        assert [*ticking("drawing", range(8), 8)] == [*range(8)]
    if is_terminal:
        assert "left" in text()
    else:
        assert text() == "drawing: 25%\ndrawing: 50%\ndrawing: 75%\n"
