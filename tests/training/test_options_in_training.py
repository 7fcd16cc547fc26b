"""Options of data and model in complete training runs."""

import json

import numpy as np
import pytest
import tiny

from emergent_icl.config.check import ConfigError
from emergent_icl.models.tokens import position_capacity
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_runs")

QUICK = {"training.num_steps": 20, "evaluation.every": 20, "checkpoints.every": 20}


def losses(folder, preset="symbols", **options):
    config = tiny.get_config(preset).unlock()
    config.update_from_flattened_dict({"training.log_every": 10, **options})
    train(config.lock(), Workdir(folder), Display())
    return [record["train/loss"] for record in read_metrics(Workdir(folder).metrics)]


def test_bfloat16_losses_are_within_five_percent_of_float32(tmp_path):
    exact, short = (
        losses(tmp_path / precision, "images", **{"model.precision": precision})
        for precision in ("float32", "bfloat16")
    )
    assert exact[-1] < exact[0] - 0.05
    assert exact != short
    assert short == pytest.approx(exact, rel=0.05)
    # Saved parameters are float32.
    run = load_run(tmp_path / "bfloat16")
    assert {leaf.dtype for leaves in run.params.values() for leaf in leaves.values()} == {
        np.dtype(np.float32)
    }


@pytest.mark.faults
def test_contexts_of_64_pairs(tmp_path):
    options = {"data.sequences.seq_len": 65, "data.sequences.shots": 8, "data.sequences.ways": 6}
    options |= {"evaluation.shots": 16, "evaluation.ways": 4, **QUICK}
    assert np.isfinite(losses(tmp_path, **options)).all()
    summary = json.loads(Workdir(tmp_path).summary.read_text())
    assert 0 < summary["evals"]["fewshot_holdout"]["accuracy_closed"] < 1


def test_learned_positions_cover_exactly_the_longest_sequence(tmp_path):
    options = {"model.positions": "learned", "evaluation.shots": 6, **QUICK}
    losses(tmp_path, **options)
    table = load_run(tmp_path).params["tokens"]["positions"]
    assert table.shape == (2 * 13 - 1, 16)
    shorter = load_run(tmp_path, overrides={"evaluation.shots": 2})
    config, task = shorter.experiment.config, shorter.experiment.task
    assert position_capacity(config.model, task.longest_seq_len) == 25
    with pytest.raises(ConfigError, match="because positions are learned"):
        load_run(tmp_path, overrides={"evaluation.shots": 7})


def test_interim_predictions_are_learned_only_if_weighted(tmp_path):
    """Each context has one class: from the second example on, its label is known."""
    options = {"data.sequences.ways": 1, "data.sequences.shots": 8, "data.sequences.p_bursty": 1.0}
    options |= {"training.num_steps": 200, "checkpoints.every": 200, "evaluation.every": 200}

    def context_loss(weight):
        folder = tmp_path / str(weight)
        losses(folder, **options, **{"training.interim_weight": weight})
        run = load_run(folder)
        batch = run.experiment.task.training.sample(np.random.default_rng(0), 64)
        logits, _ = run.experiment.network.apply(
            run.params, run.batch_stats, None, batch.class_ids, batch.labels, False, "examples"
        )
        logits = np.asarray(logits, np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        chosen = np.take_along_axis(log_p, batch.labels[..., None], axis=-1)[..., 0]
        return -chosen[:, 3:5].mean()

    assert context_loss(0.9) < context_loss(0.0) - 0.1


@pytest.mark.parametrize("sequence_type", ["relabelled", "flip", "mixed"])
def test_new_sequence_types_can_be_trained_on(sequence_type, tmp_path):
    options = {"data.sequences.type": sequence_type, **QUICK}
    if sequence_type != "relabelled":
        options["data.sequences.shots"] = 4
    assert np.isfinite(losses(tmp_path, **options)).all()
