"""The training loop: files, resuming, extending, divergence, and opening a run."""

import json
import time

import jax
import numpy as np
import pytest

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.plots.learning_curves import draw
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.progress import NonFiniteLossError, utc_now
from emergent_icl.runs.records import Display, MetricsWriter, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.evidence import read_runs
from emergent_icl.training import devices
from emergent_icl.training.update import TrainState

pytestmark = pytest.mark.usefixtures("quick_runs")

# Depend on the clock, not on the computation.
TIMES = ("steps_per_second", "sequences_per_second")


def run(config, folder, **options):
    return train(config.lock(), Workdir(folder), Display(), **options)


def records(folder):
    return [
        {name: value for name, value in record.items() if name not in TIMES}
        for record in read_metrics(Workdir(folder).metrics)
    ]


def stored_state(folder, step):
    with CheckpointStore(Workdir(folder).checkpoints) as store:
        template = load_run(folder).experiment.state_template()
        return store.restore(step, template)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete tiny run, shared by tests that only read it."""
    import tiny

    folder = tmp_path_factory.mktemp("finished")
    outcome = train(tiny.get_config("symbols"), Workdir(folder), Display())
    return folder, outcome


def test_a_run_writes_all_promised_files(finished):
    folder, outcome = finished
    workdir = Workdir(folder)
    summary = json.loads(workdir.summary.read_text())
    assert summary == outcome.summary
    assert not outcome.was_complete
    assert set(summary) >= {
        "step", "started", "wall_seconds", "parameters", "train_sequences_per_second", "icl", "iwl",
        "evals", "config_name", "seed", "devices", "versions",
    }  # fmt: skip
    assert summary["step"] == 40
    assert summary["wall_seconds"] > 0
    assert summary["started"] <= utc_now()
    assert summary["icl"] == summary["evals"]["fewshot_holdout"]["accuracy_closed"]
    assert summary["iwl"] == summary["evals"]["no_support_zipfian"]["accuracy"]
    draw(workdir)
    assert workdir.learning_curves.read_bytes().startswith(b"\x89PNG")
    assert list(workdir.tensorboard.glob("events.out.tfevents.*"))
    assert json.loads(workdir.config.read_text())["data"]["sequences"]["p_bursty"] == 0.9

    lines = read_metrics(workdir.metrics)
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert {"train/loss", "train/accuracy", "train/grad_norm"} <= set(lines[0])
    assert "eval/fewshot_holdout/accuracy_closed" in lines[1]
    assert "eval/fewshot_holdout/accuracy_closed" not in lines[2]
    with CheckpointStore(workdir.checkpoints) as store:
        assert store.steps() == [20, 40]


def test_training_learns(finished):
    lines = read_metrics(Workdir(finished[0]).metrics)
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]


def test_a_complete_run_is_not_changed(finished, config):
    folder, outcome = finished

    def times():
        files = set(folder.rglob("*")) - {Workdir(folder).lock}
        return {path: path.stat().st_mtime_ns for path in files if path.is_file()}

    before = times()
    again = run(config, folder)
    assert again.was_complete
    assert again.summary == outcome.summary
    assert times() == before


def test_same_config_same_bits(finished, config, tmp_path):
    run(config, tmp_path)
    assert records(tmp_path) == records(finished[0])
    jax.tree.map(
        np.testing.assert_array_equal, stored_state(tmp_path, 40), stored_state(finished[0], 40)
    )


def test_another_seed_is_another_run(finished, config, tmp_path):
    config.training.seed = 1
    run(config, tmp_path)
    assert records(tmp_path) != records(finished[0])


def test_an_extended_run_equals_the_long_run(finished, config, tmp_path):
    config.training.num_steps = 20
    short = config.copy_and_resolve_references()
    assert run(short, tmp_path).summary["step"] == 20
    config.training.num_steps = 40
    outcome = run(config, tmp_path)
    assert (outcome.was_complete, outcome.summary["step"]) == (False, 40)
    assert records(tmp_path) == records(finished[0])


def test_a_run_extended_between_two_lines_has_the_same_means(finished, config, tmp_path):
    config.training.num_steps = 25
    run(config.copy_and_resolve_references(), tmp_path)
    config.training.num_steps = 40
    run(config, tmp_path)
    steps = {record["step"]: record for record in records(tmp_path)}
    assert sorted(steps) == [10, 20, 25, 30, 40]
    for record in records(finished[0]):
        assert steps[record["step"]] == record


def test_a_run_interrupted_between_two_lines_has_the_same_means(finished, config, tmp_path):
    """If it stops at step 13, the mean of steps 11 to 20 spans both commands."""
    import signal

    from emergent_icl.runs.train import Interrupted

    # Polled once before the first step, then after each.
    polls = iter(range(1, 100))
    with pytest.raises(Interrupted) as stop:
        run(config, tmp_path, stop_requested=lambda: signal.SIGTERM if next(polls) == 14 else None)
    assert stop.value.step == 13
    run(config, tmp_path)
    assert records(tmp_path) == records(finished[0])


@pytest.mark.parametrize("end", [13, 30])
def test_a_run_may_end_where_it_was_stopped(finished, config, tmp_path, end):
    """Its last line has the same training metrics and evaluation as that of a run planned so."""
    import signal

    from emergent_icl.runs.train import Interrupted

    polls = iter(range(1, 100))
    with pytest.raises(Interrupted) as stop:
        run(
            config,
            tmp_path / "stopped",
            stop_requested=lambda: signal.SIGTERM if next(polls) == end + 1 else None,
        )
    assert stop.value.step == end
    short = with_options(config, {"training.num_steps": end})
    summaries = [run(short, tmp_path / name).summary for name in ("stopped", "planned")]
    *earlier, last = records(tmp_path / "planned")
    if end == 13:  # It was not due at that step.
        del last["train/grad_norm"]
    assert records(tmp_path / "stopped") == [*earlier, last]
    assert summaries[0]["evals"] == summaries[1]["evals"]
    (measured,) = read_runs(Workdir(tmp_path / "stopped"))
    assert list(measured.curves["icl"]) == ([20] if end > 20 else []) + [end]
    # Extended, it is the long run.
    run(config, tmp_path / "stopped")
    steps = {record["step"]: record for record in records(tmp_path / "stopped")}
    for record in records(finished[0]):
        extra = steps[record["step"]].items() - record.items()
        assert record.items() <= steps[record["step"]].items()
        assert all(name.startswith("eval/") for name, _ in extra)


def test_several_steps_per_call_give_the_same_losses(finished, config, tmp_path):
    config.training.steps_per_call = 5
    run(config, tmp_path)
    for ours, theirs in zip(records(tmp_path), records(finished[0]), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-4)


def test_the_arithmetic_of_the_first_version_gives_the_same_losses(finished, config, tmp_path):
    config.training.update(arithmetic=1, log_every=1)
    run(config, tmp_path)
    earlier = {line["step"]: line for line in records(tmp_path)}
    for line in records(finished[0]):
        losses = [earlier[step]["train/loss"] for step in range(line["step"] - 9, line["step"] + 1)]
        assert line["train/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        # Of one step, not the mean over the line.
        norm = earlier[line["step"]]["train/grad_norm"]
        assert line["train/grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_waiting_for_the_device_before_an_evaluation_counts_as_training_time(config, tmp_path):
    """Steps in flight when an evaluation begins are training, wherever the host waits for them."""

    def slowly(tree):
        time.sleep(0.5)
        return devices.fetch(tree)

    # Metrics are waited for at the evaluation of step 20 and at the line of step 40.
    config.training.log_every = 40
    config.checkpoints.every = 40
    run(config, tmp_path, fetch=slowly)
    with CheckpointStore(Workdir(tmp_path).checkpoints) as store:
        _, progress = store.restore(40, load_run(tmp_path).experiment.state_template())
    assert 1.0 < progress.train_seconds < progress.wall_seconds - 0.5


def test_wall_time_adds_up_over_commands_and_the_first_start_is_kept(config, tmp_path, monkeypatch):
    config.training.num_steps = 20
    run(config.copy_and_resolve_references(), tmp_path)
    with CheckpointStore(Workdir(tmp_path).checkpoints) as store:
        _, carried = store.restore(20, load_run(tmp_path).experiment.state_template())
    started = time.monotonic()
    config.training.num_steps = 40
    monkeypatch.setattr("emergent_icl.runs.train.utc_now", lambda: "later")
    summary = run(config, tmp_path, started=started).summary
    assert summary["started"] == carried.started <= utc_now()
    both = summary["wall_seconds"]
    assert carried.wall_seconds > 0
    own = both - carried.wall_seconds
    assert 0 < own < time.monotonic() - started


def test_a_non_finite_loss_stops_the_run_without_saving(config, tmp_path):
    config.training.optimizer.name = "sgd"
    config.training.optimizer.learning_rate = 1e30
    config.training.optimizer.warmup_steps = 0
    config.checkpoints.every = 1
    config.checkpoints.keep = 100
    with pytest.raises(
        NonFiniteLossError, match=r"step 2 is nan; the last .* was \d\.\d"
    ) as raised:
        run(config, tmp_path)
    assert raised.value.step == 2
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert all(step < 2 for step in store.steps())
    summary = Workdir(tmp_path).read_summary()
    assert (summary["step"], summary["diverged_at_step"]) == (2, 2)
    assert summary["evals"] == {}
    assert summary["last_finite_loss"] > 0


def test_a_run_that_diverges_in_its_last_step_is_not_complete(config, tmp_path):
    config.training.optimizer.name = "sgd"
    config.training.optimizer.learning_rate = 1e30
    config.training.optimizer.warmup_steps = 0
    config.training.num_steps = 1
    for _ in range(2):  # The summary of the first command does not make it complete.
        with pytest.raises(NonFiniteLossError, match="loss on fewshot_holdout at step 1 is nan"):
            run(config, tmp_path)
        with CheckpointStore(tmp_path / "checkpoints") as store:
            assert store.steps() == []
        assert Workdir(tmp_path).read_summary()["diverged_at_step"] == 1


def test_a_non_finite_state_is_not_saved(config, tmp_path):
    """Even if every loss was finite."""

    def poisoned(tree):
        host = devices.fetch(tree)
        if not isinstance(host, TrainState):
            return host
        head = {name: np.full_like(leaf, np.nan) for name, leaf in host.params["head"].items()}
        return host._replace(params={**host.params, "head": head})

    with pytest.raises(NonFiniteLossError, match=r"state after step 20 is not finite in .*head"):
        run(config, tmp_path, fetch=poisoned)
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert store.steps() == []
    assert Workdir(tmp_path).read_summary()["diverged_at_step"] == 20


def test_another_config_in_the_same_folder_is_refused(finished, config):
    folder, _ = finished
    before = Workdir(folder).config.read_bytes()
    config.data.sequences.p_bursty = 0.5
    config.training.seed = 7
    with pytest.raises(WorkdirError) as raised:
        run(config, folder)
    assert "data.sequences.p_bursty: 0.9 there, 0.5 here" in str(raised.value)
    assert "training.seed: 0 there, 7 here" in str(raised.value)
    assert Workdir(folder).config.read_bytes() == before


def test_fewer_steps_than_already_trained_are_refused(finished, config):
    before = Workdir(finished[0]).config.read_bytes()
    config.training.num_steps = 20
    with pytest.raises(WorkdirError, match="already at step 40, beyond"):
        run(config, finished[0])
    assert Workdir(finished[0]).config.read_bytes() == before


def test_a_cosine_run_cannot_be_extended(config, tmp_path):
    config.training.optimizer.schedule = "cosine"
    Workdir(tmp_path).claim(config)
    config.training.num_steps = 80
    with pytest.raises(WorkdirError, match=r"training\.num_steps: 40 there, 80 here"):
        Workdir(tmp_path).check(config)


def test_an_invalid_config_writes_nothing(config, tmp_path):
    config.data.sequences.seq_len = 3
    with pytest.raises(ConfigError):
        run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_load_run_returns_the_trained_model(finished):
    folder, outcome = finished
    opened = load_run(folder, overrides={"evaluation.num_sequences": 50})
    assert opened.step == 40
    results = opened.experiment.evaluator()(opened.params, opened.batch_stats, opened.device_bank())
    for mode, metrics in outcome.summary["evals"].items():
        for name, value in metrics.items():
            assert results[mode][name].mean == pytest.approx(value, abs=1e-6)
    earlier = load_run(folder, step=20)
    assert earlier.step == 20
    assert not np.array_equal(earlier.params["head"]["w"], opened.params["head"]["w"])


def test_a_run_on_relabeled_sequences_can_be_evaluated_in_any_mode(config, tmp_path):
    config.data.sequences.type = "fewshot_rare"
    config.data.sequences.labeling = "unfixed"
    config.data.sequences.seq_len = 7
    run(config, tmp_path)
    opened = load_run(tmp_path, overrides={"evaluation.modes": ("fewshot_holdout",)})
    results = opened.experiment.evaluator()(opened.params, opened.batch_stats, opened.device_bank())
    assert results["fewshot_holdout"]["loss"].mean > 0


def test_overrides_of_load_run_are_checked(finished):
    for overrides, message in (
        ({"evaluation.num_sequence": 100}, "did you mean 'evaluation.num_sequences'"),
        ({"evaluation.num_sequences": "many"}, "must be an integer"),
        ({"evaluation.fewshot_labeling": "original", "evaluation.ways": 50}, "at least ways = 50"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_run(finished[0], overrides=overrides)


@pytest.mark.parametrize(
    "path",
    ["model.num_layers", "model.num_positions", "data.split.num_rare", "data.sequences.labeling"],
)
def test_options_of_training_cannot_be_overridden(finished, path):
    with pytest.raises(ConfigError, match=f"{path} is fixed in a trained run"):
        load_run(finished[0], overrides={path: 3})
    with pytest.raises(ConfigError, match="evaluation is fixed in a trained run"):
        load_run(finished[0], overrides={"evaluation": 3})


@pytest.mark.parametrize("content", ["[]", "3", '{"data": 3}', "{"])
def test_an_invalid_config_file_gives_one_message(content, finished, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises((WorkdirError, ConfigError)):
        load_run(tmp_path)


def test_load_run_names_what_is_missing(finished, tmp_path):
    with pytest.raises(WorkdirError, match=r"no config\.json"):
        load_run(tmp_path)
    with pytest.raises(WorkdirError, match=r"no checkpoint of step 30 \(available: 20, 40\)"):
        load_run(finished[0], step=30)


def test_metrics_writer_drops_incomplete_lines_and_those_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30, "a": 3}\n{"step": 4')
    with MetricsWriter(Workdir(tmp_path), resume_step=20) as writer:
        writer.write(25, {"": {"a": 9.5}})
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 25]
    assert path.read_text().endswith('{"step": 25, "a": 9.5}\n')
