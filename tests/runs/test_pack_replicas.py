"""A packed run of several replicas resumes elsewhere, also on another number of devices."""

import pytest
import tiny
from launching import launch, records

from emergent_icl.runs.open import load_replicas
from emergent_icl.runs.pack import pack, unpack
from emergent_icl.runs.records import Display, last_step
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_runs")


def config():
    config = tiny.get_config("symbols").unlock()
    config.training.replicas = 2
    return config.lock()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(config(), Workdir(folder), Display())
    return Workdir(folder)


def moved(trained, folder):
    """The run at its first checkpoint, elsewhere."""
    pack(trained, folder / "file", step=20)
    there = Workdir(folder / "run")
    assert unpack(folder / "file", there).step == last_step(there.metrics) == 20
    return there


def test_replicas_resume_to_the_same_bits(trained, tmp_path):
    there = moved(trained, tmp_path)
    train(config(), there, Display())
    assert records(there.path) == records(trained.path)
    assert load_replicas(there.path).keys() == load_replicas(trained.path).keys()


@pytest.mark.faults
def test_they_resume_on_two_devices_to_rounding(trained, tmp_path):
    there = moved(trained, tmp_path)
    done = launch("train", f"--workdir={there.path}", env={"JAX_NUM_CPU_DEVICES": "2"})
    assert done.returncode == 0, done.stderr
    pairs = zip(records(there.path), records(trained.path), strict=True)
    for found, expected in pairs:
        assert found == pytest.approx(expected, abs=1e-3)
