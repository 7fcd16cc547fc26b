"""Durations are rounded once: 59.99 minutes are 1 h 00 min."""

import pytest

from emergent_icl.runs.progress import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (12.4, "12 s"), (89, "89 s"), (90, "2 min"), (3569, "59 min"),
        (3599.9, "1 h 00 min"), (12345.6, "3 h 26 min"), (100 * 3600, "100 h 00 min"),
    ],
)  # fmt: skip
def test_durations_are_rounded_once(seconds, text):
    assert duration_text(seconds) == text
