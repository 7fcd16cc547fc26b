"""Replicas: named overrides, and each replica equals the corresponding single run."""

import json

import jax
import numpy as np
import pytest
import tiny

from emergent_icl.cli import tables
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten, named_overrides
from emergent_icl.plots.learning_curves import draw
from emergent_icl.runs import train as loop
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run, replica_names
from emergent_icl.runs.progress import NonFiniteLossError
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError
from emergent_icl.training import devices
from emergent_icl.training.build import build
from emergent_icl.training.replicas import make_replicas
from emergent_icl.training.step import initial_state, make_step

pytestmark = pytest.mark.usefixtures("quick_runs")

TIMES = ("steps_per_second", "sequences_per_second")
# For parameters of a replica and of the single run after 40 steps of gradient descent. The largest
# difference measured was 3e-7 (docs/performance.md).
TOLERANCE = 5e-5
# Every kind of option in which replicas may differ.
OVERRIDES = (
    {"name": "iid", "training.seed": 7, "data.sequences.p_bursty": 0.0},
    {"name": "other_seeds", "training.seed": 3, "data.split.seed": 3, "evaluation.seed": 3},
    {
        "name": "skewed",
        "data.sequences.zipf_exponent": 1.0,
        "data.sequences.label_multiplicity": 2,
    },
    {"name": "identical", "data.drawings": "single", "data.noise_scale": 0.0},
    {"name": "few", "data.noise_scale": 0.7, "data.split.num_rare": 9},
    {
        "name": "other_rate",
        "training.optimizer.learning_rate": 3e-3,
        "training.optimizer.warmup_steps": 3,
        "training.optimizer.weight_decay": 0.1,
    },
)
HUGE = {"name": "huge", "training.optimizer.learning_rate": 1e30}


class Recorder(Display):
    def __init__(self):
        self.found = []

    def diverged(self, name, step, last_loss):
        self.found.append((name, step))


def run(config, folder, observer=None, **options):
    return train(config.lock(), Workdir(folder), observer or Display(), **options).summary


def lines(folder, replica=None):
    return [
        {name: value for name, value in line.items() if name not in (*TIMES, "replica")}
        for line in read_metrics(Workdir(folder).metrics)
        if line.get("replica") == replica
    ]


def assert_close(left, right):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE), left, right
    )


def assert_same_lines(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            # An accuracy changes if two nearly equal logits swap places.
            tolerance = 0.05 if "accuracy" in name or "predicts" in name else 1e-3
            assert value == pytest.approx(other[name], rel=1e-3, abs=tolerance), name


@pytest.fixture
def images(image_config):
    # Adam would amplify rounding errors of gradients that are zero in exact arithmetic.
    image_config.training.optimizer.name = "sgd"
    image_config.data.cache_dir = ""
    return image_config


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    config = tiny.get_config("images").unlock()
    config.training.optimizer.name = "sgd"
    config.training.replica_overrides = OVERRIDES
    return folder, run(config, folder)


@pytest.mark.parametrize("index", range(len(OVERRIDES)))
def test_a_replica_equals_the_single_run(together, index, images, tmp_path):
    folder, summary = together
    name = OVERRIDES[index]["name"]
    images.training.replica_overrides = OVERRIDES
    alone = make_replicas(images)[index]
    assert alone.name == name
    options = flatten(alone.config.to_dict())
    for path, value in OVERRIDES[index].items():
        assert path == "name" or options[path] == value
    ending = run(alone.config.copy_and_resolve_references(), tmp_path)
    assert_same_lines(lines(folder, name), lines(tmp_path))
    ours, theirs = load_run(folder, replica=name), load_run(tmp_path)
    assert_close(ours.params, theirs.params)
    assert summary["replicas"][name]["seed"] == ending["seed"]
    assert summary["replicas"][name]["icl"] == pytest.approx(ending["icl"], abs=0.05)


def test_all_outputs_have_the_names_of_replicas(together):
    folder, summary = together
    names = [overrides["name"] for overrides in OVERRIDES]
    workdir = Workdir(folder)
    assert list(summary["replicas"]) == replica_names(folder) == names
    assert json.loads(workdir.summary.read_text()) == summary
    assert "icl" not in summary
    steps = [(line["step"], line["replica"]) for line in read_metrics(workdir.metrics)]
    assert steps == [(step, name) for step in (10, 20, 30, 40) for name in names]
    for name in names:
        assert list((workdir.tensorboard / name).glob("events.*"))
    draw(workdir)
    assert workdir.learning_curves.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(
        WorkdirError, match="several replicas; select one: iid, other_seeds, skewed, "
    ):
        load_run(folder)
    with pytest.raises(WorkdirError, match=r"no replica 'idd' \(available: iid, other_seeds, "):
        load_run(folder, replica="idd")


def test_a_number_of_replicas_means_seeds(config, tmp_path):
    config.training.replicas = 2
    config.training.seed = 5
    summary = run(config.copy_and_resolve_references(), tmp_path / "two")
    assert {name: own["seed"] for name, own in summary["replicas"].items()} == {
        "seed=5": 5,
        "seed=6": 6,
    }
    config.training.replicas = 1
    config.training.seed = 6
    run(config, tmp_path / "one")
    assert_same_lines(lines(tmp_path / "two", "seed=6"), lines(tmp_path / "one"))
    with pytest.raises(WorkdirError, match="single run, without replicas"):
        load_run(tmp_path / "one", replica="seed=6")


def test_resumed_replicas_equal_uninterrupted_ones(config, tmp_path):
    import signal

    config.training.replicas = 2
    run(config.copy_and_resolve_references(), tmp_path / "whole")
    polls = iter(range(100))
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        run(
            config.copy_and_resolve_references(),
            stopped,
            stop_requested=lambda: signal.SIGTERM if next(polls) == 13 else None,
        )
    run(config, stopped)
    for name in ("seed=0", "seed=1"):
        assert lines(stopped, name) == lines(tmp_path / "whole", name)


def test_a_diverged_replica_is_flagged_and_does_not_affect_the_others(config, tmp_path, capsys):
    config.training.optimizer.name = "sgd"
    config.training.optimizer.warmup_steps = 0
    config.training.replica_overrides = ({"name": "good"}, HUGE, {"name": "z", "training.seed": 2})
    recorder = Recorder()
    summary = run(config.copy_and_resolve_references(), tmp_path / "three", recorder)
    config.training.replica_overrides = ({"name": "good"}, {"name": "z", "training.seed": 2})
    run(config, tmp_path / "two")
    assert recorder.found == [("huge", 2)]
    own = summary["replicas"]["huge"]
    # That of the first step, when the network guesses among 40 labels.
    assert own["last_finite_loss"] == pytest.approx(np.log(40), abs=1.5)
    tables.print_summary(summary)
    assert f"at step 2 │ {own['last_finite_loss']:.3f}" in " ".join(capsys.readouterr().out.split())
    assert (own["diverged_at_step"], own["icl"], own["evals"]) == (2, None, {})
    assert lines(tmp_path / "three", "huge") == []
    for name in ("good", "z"):
        assert "diverged_at_step" not in summary["replicas"][name]
        assert_same_lines(lines(tmp_path / "three", name), lines(tmp_path / "two", name))
        assert_close(
            load_run(tmp_path / "three", replica=name).params,
            load_run(tmp_path / "two", replica=name).params,
        )
    with pytest.raises(DivergedError, match=r"replica 'huge' of .* diverged at step 2"):
        load_run(tmp_path / "three", replica="huge")
    # A resumed run reads this from its checkpoint.
    config = Workdir(tmp_path / "three").read_config().unlock()
    config.training.num_steps = 60
    again = Recorder()
    assert run(config, tmp_path / "three", again)["replicas"]["huge"] == own
    assert again.found == []


def test_only_replicas_with_excessive_learning_rates_diverge(config, tmp_path):
    """A gradient may become infinite before the loss does."""
    config.training.optimizer.name = "sgd"
    config.training.optimizer.warmup_steps = 0
    config.training.log_every = 1
    config.evaluation.modes = ("no_support_zipfian",)
    rates = {f"1e{power}": 10.0**power for power in (-1, 4, 9, 14, 19, 24, 30)}
    config.training.replica_overrides = tuple(
        {"name": name, "training.optimizer.learning_rate": rate} for name, rate in rates.items()
    )
    recorder = Recorder()
    found = run(config, tmp_path, recorder)["replicas"]
    assert "diverged_at_step" not in found["1e-1"]
    assert len(lines(tmp_path, "1e-1")) == 40
    assert dict(recorder.found) == {
        name: own["diverged_at_step"] for name, own in found.items() if "diverged_at_step" in own
    }
    assert "1e30" in dict(recorder.found)


@pytest.mark.parametrize("step", [20, 40])
def test_a_non_finite_state_flags_its_replica(config, tmp_path, monkeypatch, step):
    """Even if every loss was finite; checked at each checkpoint, including the last."""
    monkeypatch.setattr(
        loop,
        "non_finite_leaves",
        lambda state, replica: ["w"] if (state.step[0], replica) == (step, 1) else [],
    )
    config.training.replicas = 2
    recorder = Recorder()
    found = run(config, tmp_path, recorder)["replicas"]
    assert recorder.found == [("seed=1", step)]
    assert found["seed=1"] == {
        "seed": 1, "icl": None, "iwl": None, "evals": {}, "diverged_at_step": step,
        "last_finite_loss": found["seed=1"]["last_finite_loss"],
    }  # fmt: skip
    assert 0 < found["seed=1"]["last_finite_loss"] < 10
    assert found["seed=0"]["icl"] is not None


@pytest.mark.faults
def test_with_batch_norm_and_adam_curves_agree_for_the_first_steps(tmp_path):
    """Losses agree to 1e-3 for the first steps only.

    Adam amplifies rounding errors of gradients that are zero in exact arithmetic, as it does when
    the batch is laid out differently.
    """
    config = tiny.get_config("resnet").unlock()
    config.model.sequence_model = "rnn"
    config.evaluation.modes = ("no_support_zipfian",)
    config.training.num_steps = 10
    config.training.log_every = 1
    config.training.replicas = 2
    run(config.copy_and_resolve_references(), tmp_path / "two")
    config.training.replicas = 1
    config.training.seed = 1
    run(config, tmp_path / "one")
    for ours, theirs in zip(
        lines(tmp_path / "two", "seed=1"), lines(tmp_path / "one"), strict=True
    ):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)


def test_training_stops_if_all_replicas_diverge(config, tmp_path):
    config.training.optimizer.name = "sgd"
    config.training.optimizer.warmup_steps = 0
    config.training.replica_overrides = (HUGE, {**HUGE, "name": "huger", "training.seed": 1})
    with pytest.raises(NonFiniteLossError, match="All 2 replicas have diverged; the last: The"):
        run(config, tmp_path)
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert all(step < 2 for step in store.steps())


def test_metrics_are_copied_to_the_host_once_per_line(config, tmp_path):
    """Only through the injected function; the host does not wait for steps in between."""
    fetched = []

    def fetch(tree):
        fetched.append(jax.tree.leaves(tree))
        return devices.fetch(tree)

    run(config, tmp_path, fetch=fetch)
    # Lines at 10, 20, 30, 40 with 10 calls of 4 metrics each; states at 20 and 40.
    sizes = [len(leaves) for leaves in fetched]
    assert sizes.count(40) == 4
    assert len(sizes) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (({"model.num_layers": 3},), "model.num_layers is common to all replicas"),
        (({"training.sed": 3},), "training.sed is common .*did you mean 'training.seed'"),
        (({"data.sequences.p_burst": 3},), "replica 'p_burst=3': .*p_burst is not an option"),
        (({"data.sequences.p_bursty": 3},), "replica 'p_bursty=3': .*must be a number"),
        (({"name": "a"}, {"name": "a"}), "two replicas have the name 'a'"),
        (({"name": "a b"},), "the name 'a b' must be"),
        (({"name": "../a"},), "the name '../a' must be"),
        (({},), "the name '' must be"),
        (({"name": "a"}, {"name": "A"}), "two replicas have the name 'a'"),
        (({"name": "a" * 101},), "up to 99 letters"),
        (({"name": "a", "training.seed.x": 2},), "training.seed.x is "),
        (({"name": "a", "data.split.num_rare.x": 2},), "data.split.num_rare.x is not an option"),
        ((3,), "replica_overrides = .* must be a tuple of at most 256 dictionaries"),
        (
            ({"data.sequences.seq_len": 9}, {"data.sequences.seq_len": 7}),
            "same sequence length, not 9 for 'seq_len=9', 7 for 'seq_len=7'",
        ),
        (({"data.drawings": "separated"}, {"data.drawings": "all"}), "it cannot be combined"),
        (({"data.split.num_rare": 400},), "replica 'num_rare=400'"),
    ],
)
def test_invalid_overrides_are_refused(image_config, overrides, message):
    image_config.training.replica_overrides = overrides
    with pytest.raises(ConfigError, match=message):
        check(image_config)


def test_the_number_of_replicas_must_match(config):
    config.training.replica_overrides = ({"training.seed": 1}, {"training.seed": 2})
    for count in (1, 2):
        config.training.replicas = count
        check(config)
    config.training.replicas = 3
    with pytest.raises(ConfigError, match=r"must be 1 \(derived\) or 2"):
        check(config)
    config.training.replicas = 2
    config.training.spread_replicas = True
    check(config, num_devices=2)
    with pytest.raises(ConfigError, match="2 replicas must be a multiple of the 4 devices"):
        check(config, num_devices=4)


def test_all_replicas_get_the_largest_capacity(config):
    config.training.replica_overrides = (
        {"data.split.num_rare": 5},
        {"data.sequences.label_multiplicity": 3},
    )
    few, many = make_replicas(config)
    assert many.task.num_labels == 3 * 32 + 8
    assert few.config.model.num_labels == few.task.num_labels == many.task.num_labels
    assert few.config.training.replica_overrides == ()
    assert [name for name, _ in named_overrides(config)] == [
        "num_rare=5",
        "label_multiplicity=3",
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_learned_positions_cover_the_longest_replica(order, config):
    """Evaluated with 4 shots, 2 and 4 ways give 9 and 17 examples."""
    config.model.positions = "learned"
    config.evaluation.shots = 4
    own = (
        {"name": "two", "data.sequences.ways": 2, "data.sequences.shots": 4},
        {"name": "four", "data.sequences.ways": 4, "data.sequences.shots": 2},
    )
    config.data.sequences.seq_len = 9
    config.training.replica_overrides = tuple(own[index] for index in order)
    config.training.num_steps = config.evaluation.every = 1
    experiment = build(config.lock())
    state = initial_state(experiment)
    bank = devices.place_bank(experiment.arrays())
    for index, evaluator in enumerate(experiment.evaluators()):
        params = jax.tree.map(lambda leaf, index=index: leaf[index], state.params)
        assert evaluator(params, {}, bank)
        assert experiment.replicas[index].config.model.num_positions == 33


def test_random_rare_images_need_common_rare_classes(image_config):
    image_config.data.random_rare_images = True
    image_config.training.replica_overrides = ({"name": "a"}, {"data.split.num_rare": 9})
    with pytest.raises(ConfigError, match="same rare classes"):
        check(image_config)


# As single runs, they have 40 and 72 labels.
FEW_LABELS = {"name": "few", "data.sequences.label_multiplicity": 1}
MANY_LABELS = {"name": "many", "data.sequences.label_multiplicity": 2}


def cut(tree, count, capacity):
    """Cuts every axis of length `capacity`, which has one entry per label, to `count`."""

    def one(leaf):
        for axis, size in enumerate(leaf.shape):
            leaf = np.take(leaf, range(count), axis) if size == capacity else np.asarray(leaf)
        return leaf

    return jax.tree.map(one, tree)


def test_a_replica_with_fewer_labels_equals_the_single_run(config):
    """From the same initial parameters: loss, gradients, and every evaluation."""
    config.training.optimizer.name = "sgd"
    config.training.replica_overrides = (FEW_LABELS, MANY_LABELS)
    pair = build(config.copy_and_resolve_references().lock())
    config.training.replica_overrides = ()
    alone = build(config.lock())
    few, many = (replica.task for replica in pair.replicas)
    assert (few.used_labels, many.used_labels, few.num_labels) == (40, 72, 72)
    together, single = make_step(pair), make_step(alone)
    assert single.hyper.used_labels is None
    state = initial_state(pair)
    own = jax.tree.map(lambda leaf: leaf[:1], cut(state, 40, 72))
    states = [together.layout.place(state), single.layout.place(own)]
    found = []
    for index, (step, experiment) in enumerate(((together, pair), (single, alone))):
        metrics, feed = [], step.feed(0)
        for _ in range(5):
            states[index], one = step.call(states[index], next(feed))
            metrics.append([float(one[name][0, 0, 0]) for name in ("loss", "grad_norm")])
        model = step.layout.replica((states[index].params, states[index].batch_stats), 0)
        evals = experiment.evaluators()[0](*model, devices.on_first_device(step.bank))
        values = [value.mean for mode in evals.values() for value in mode.values()]
        found.append((metrics, values, jax.device_get(model[0])))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
    assert_close(cut(found[0][2], 40, 72), found[1][2])


def test_surplus_labels_are_predicted_in_stored_runs_only(config):
    config.model.num_labels = 60
    new = build(config.copy_and_resolve_references().lock())
    config.model.own_labels = False
    old = build(config.lock())
    assert (new.task.used_labels, old.task.used_labels) == (40, 60)
    state = new.init(0)
    bank = jax.device_put(new.arrays())
    # A head that prefers a label that no class has.
    head = dict(state.params["head"])
    head["b"] = head["b"].at[55].set(100.0)
    params = {**state.params, "head": head}
    seen = [one.evaluator()(params, state.batch_stats, bank) for one in (new, old)]
    (masked, whole) = (one["no_support_zipfian"] for one in seen)
    assert masked["loss"].mean < 6 < 90 < whole["loss"].mean
    assert masked["predicts_common"].mean + masked["predicts_rare"].mean > 0
    assert whole["predicts_common"].mean + whole["predicts_rare"].mean == 0
