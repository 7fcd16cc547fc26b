"""A long run neither grows nor slows down."""

import pytest
import soak

pytestmark = pytest.mark.faults


def test_memory_and_speed_are_stable_over_twenty_thousand_steps(tmp_path):
    status, err, samples = soak.soak(tmp_path / "run")
    assert status == 0, err
    found = soak.slopes(samples)
    assert len(samples) > 30
    # Growth over the whole run, as a fraction of the median.
    assert found["megabytes"].over(soak.STEPS) < 0.05, found
    assert found["handles"].slope == 0, found
    assert found["threads"].over(soak.STEPS) < 0.05, found
    # The run saves 40 times: a thread left behind by each save would exceed this.
    assert max(one.pool for one in samples) <= 32, found
    assert found["CPU ms per step"].over(soak.STEPS) < 0.15, found
