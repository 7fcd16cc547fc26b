"""Every preset trains and evaluates, at a reduced size."""

import numpy as np
import pytest
from conftest import has_omniglot
from test_configs import CONFIGS

from emergent_icl.data.task import make_task
from emergent_icl.runs import train as loop
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_runs")

# Makes any config small, but keeps the kind of experiment.
REDUCED = {
    "data.image_size": 28,
    "data.feeder": "python",
    "data.glyphs.num_exemplars": 6,
    "model.num_layers": 1,
    "model.resnet.channels": (64,),
    "model.resnet.blocks_per_group": (1,),
    "training.num_steps": 4,
    "training.steps_per_call": None,
    "training.batch_size": 4,
    "training.log_every": 2,
    "evaluation.every": 2,
    "evaluation.num_sequences": 20,
    "evaluation.batch_size": 20,
    "checkpoints.every": 4,
}
# The ResNet is the same as in omniglot.py:paper, and is the slowest part.
WITHOUT_RESNET = (
    "omniglot.py:paper28",
    "omniglot_augmented.py:paper",
    "omniglot_identical.py:paper",
)
# The same models on other data; they are slow, so they run with the fault tests.
OTHER_DATA = ("omniglot_augmented.py", "omniglot_identical.py")
PARAMS = [
    pytest.param(name, marks=[pytest.mark.faults] * name.startswith(OTHER_DATA)) for name in CONFIGS
]


@pytest.mark.parametrize("name", PARAMS)
def test_every_config_trains_and_evaluates(name, tmp_path):
    config = CONFIGS[name]().unlock()
    config.update_from_flattened_dict(REDUCED)
    if name in WITHOUT_RESNET:
        config.model.encoder = "linear"
    if config.data.source == "omniglot" and not has_omniglot():
        config.data.source = "glyphs"
    outcome = loop.train(config.lock(), Workdir(tmp_path), Display())
    assert outcome.summary["step"] == 4
    assert set(outcome.summary["evals"]) == set(config.evaluation.modes)
    for metrics in outcome.summary["evals"].values():
        assert np.isfinite(list(metrics.values())).all()
    losses = [record["train/loss"] for record in read_metrics(Workdir(tmp_path).metrics)]
    assert len(losses) == 2
    # Before learning, predictions are nearly uniform; logits of variance 1 add 0.5.
    expected = np.log(make_task(config).num_labels)
    assert losses[0] == pytest.approx(expected, rel=0.2, abs=0.6)
