"""The clock of a run."""

from types import SimpleNamespace

import numpy as np
import pytest

from emergent_icl.runs import progress
from emergent_icl.runs.progress import Progress, Tracker


def test_the_clock_starts_when_the_first_call_is_complete(monkeypatch):
    """Calls of five steps take a second each, on a device that Python does not wait for."""
    now, free = 0.0, 0.0

    def dispatch(tracker, first_step):
        nonlocal free
        free = max(now, free) + 1
        tracker.add(first_step, {"loss": np.ones((5, 1))})

    def wait(metrics):
        nonlocal now
        now = max(now, free)
        return metrics

    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(progress.jax, "block_until_ready", wait)
    monkeypatch.setattr(progress, "calls_in_flight", lambda: 4)
    layout = SimpleNamespace(
        needed=lambda metrics: metrics, metrics_on_host=lambda metrics: metrics
    )
    spec = SimpleNamespace(batch_size=2)
    step = SimpleNamespace(steps_per_call=5, feed_spec=spec, layout=layout, has_norm=None)
    tracker = Tracker([SimpleNamespace(name="")], step, Progress(), 0.0, fetch=wait)
    dispatch(tracker, 0)
    dispatch(tracker, 5)
    line = tracker.line(keep=False)[""]
    assert line["train/loss"] == 1
    assert line["steps_per_second"] == pytest.approx(5)
    assert line["sequences_per_second"] == pytest.approx(10)
