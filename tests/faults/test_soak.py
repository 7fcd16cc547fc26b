"""A long run neither grows nor slows down."""

import pytest
import soak

pytestmark = pytest.mark.faults


def test_memory_and_speed_are_stable_over_twenty_thousand_steps(tmp_path):
    status, err, samples = soak.soak(tmp_path / "run")
    assert status == 0, err
    found = soak.slopes(samples)
    assert len(samples) > 30
    # In MB, since a leak does not depend on the size of the process: 5% were 48 MB when it had 968.
    assert found["megabytes"].slope * soak.STEPS / 1000 < 30, found
    assert found["handles"].slope == 0, found
    # Growth over the whole run, as a fraction of the median.
    assert found["threads"].over(soak.STEPS) < 0.05, found
    assert found["CPU ms per step"].over(soak.STEPS) < 0.15, found
