"""Opening a run that is training and deletes its earlier checkpoints."""

import signal
from pathlib import Path

import pytest
import tiny
from launching import Processes, train_flags, wait_for

from emergent_icl.runs.checkpoints import ATTEMPTS, CheckpointError, CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.workdir import WorkdirError


class Pruned(CheckpointStore):
    """Checkpoints of a training run, whose folder changes before each read."""

    def __init__(self, *listings):
        super().__init__(Path("run/checkpoints"))
        self.listings, self.tried = list(listings), []

    def steps(self):
        return self.listings[0]

    def restore(self, step):
        self.tried.append(step)
        if len(self.listings) > 1:
            self.listings.pop(0)
        # A checkpoint that is being deleted may still be listed.
        if step != self.steps()[-1]:
            raise CheckpointError(f"step {step} cannot be read")
        return f"state {step}"


@pytest.mark.parametrize("listings", [[[20], [30], [40], [40]], [[20], [20, 30], [30]]])
def test_if_a_checkpoint_was_deleted_the_newest_is_opened(listings):
    store = Pruned(*listings)
    newest = listings[-1][-1]
    assert store.read(None, store.restore) == (newest, f"state {newest}")
    assert store.tried[0] == 20


def test_a_requested_step_that_was_deleted_is_an_error():
    store = Pruned([20], [30])
    with pytest.raises(WorkdirError, match=r"no checkpoint of step 20 \(available: 30\)"):
        store.read(20, store.restore)


def test_attempts_are_limited_and_damage_is_reported_at_once():
    store = Pruned(*([step] for step in range(1, 100)))
    with pytest.raises(CheckpointError, match="cannot be read"):
        store.read(None, store.restore)
    assert store.tried == list(range(1, ATTEMPTS + 1))

    def damaged(step):
        store.tried.append(step)
        raise CheckpointError("its checksum does not match")

    store.tried, store.restore = [], damaged
    with pytest.raises(CheckpointError, match="checksum"):
        store.read(None, store.restore)
    assert len(store.tried) == 1


@pytest.mark.faults
def test_a_training_run_can_always_be_opened(tmp_path):
    every = dict.fromkeys(("training.log_every", "evaluation.every", "checkpoints.every"), 10)
    options = {**every, "training.num_steps": 3_000_000, "checkpoints.keep": 1}
    # A machine that is slow at reading must not lose every race.
    options["checkpoints.every"] = 30
    with Processes(tmp_path, train_flags(**options)) as training:
        wait_for(lambda: any((tmp_path / "checkpoints").glob("[1-9]*0")), "a checkpoint")
        steps = [load_run(tmp_path).step for _ in range(25)]
        training.send(signal.SIGKILL)
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]
    assert tiny.get_config().name == load_run(tmp_path).trained.name
