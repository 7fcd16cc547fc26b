"""Runs that start from another run's weights, all of them or by module."""

import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest
import tiny
import tiny_sweep

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import identity
from emergent_icl.runs import initial, leaks
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.progress import Progress
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.spec import SweepError
from emergent_icl.training.build import build
from emergent_icl.training.step import initial_state

pytestmark = pytest.mark.usefixtures("quick_runs")

I = "training.initial."  # noqa: E741
TWO = ({"name": "a"}, {"name": "b", "training.seed": 1})
assert_equal = np.testing.assert_array_equal


def save_source(folder, config, steps=(10,), diverged=()):
    """Saves a run as training does, with weights that no initialization draws."""
    workdir, experiment = Workdir(folder), build(config, check(config))
    workdir.make()
    workdir.claim(config)
    with CheckpointStore(workdir.checkpoints, config=config) as store:
        for step in steps:
            state = initial_state(experiment)
            odd = jax.tree.map(lambda leaf, step=step: leaf + step, state[2:4])
            state = state._replace(
                step=np.full_like(state.step, step), params=odd[0], batch_stats=odd[1]
            )
            store.save(state, Progress(diverged=dict.fromkeys(diverged, step)))
            store.wait()
    return state


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders and states: a single run with BatchNorm; two replicas, one of which diverged."""
    root = tmp_path_factory.mktemp("sources") / "ü %s {y}"
    single = save_source(root / "single", tiny.get_config("resnet"), (5, 10))
    both = with_options(tiny.get_config("resnet"), {"training.replica_overrides": TWO})
    pair = save_source(root / "pair", both, diverged=("b",))
    return {"single": (root / "single", single), "pair": (root / "pair", pair)}


def started(source, **options):
    """The first state of a run initialized from a folder, its random one, and its config."""
    values = {I + "run": str(source), **{I + name: value for name, value in options.items()}}
    config = with_options(tiny.get_config("resnet"), {"training.seed": 3, **values})
    config, replicas, weights = initial.find(config, check(config), Workdir("not there"))
    experiment = build(config, replicas)
    return initial.first_state(experiment, weights), initial_state(experiment), config


@pytest.mark.parametrize(
    ("modules", "is_loaded"),
    [
        ((), lambda path: True),
        (("resnet",), lambda path: path.startswith("resnet/")),
        (("transformer/layers", "head"), lambda path: path.split("/")[0] in ("transformer", "head")
            and path != "transformer/final_norm"),
    ],
)  # fmt: skip
def test_selected_modules_are_loaded_and_the_others_stay_random(modules, is_loaded, sources):
    folder, there = sources["single"]
    state, own, _ = started(folder, modules=modules)
    count = 0
    for kind in ("params", "batch_stats"):
        for path, leaves in getattr(state, kind).items():
            count += is_loaded(path)
            expected = getattr(there if is_loaded(path) else own, kind)[path]
            jax.tree.map(assert_equal, leaves, expected)
    assert count > 1
    jax.tree.map(assert_equal, state.opt_state, own.opt_state)
    assert int(state.step[0]) == 0
    assert_equal(state.key, own.key)


def test_step_and_replica_select_the_source(sources):
    folder, pair = sources["pair"]
    jax.tree.map(assert_equal, started(folder, replica="a")[0].params,
                 jax.tree.map(lambda leaf: leaf[:1], pair.params))  # fmt: skip
    early, late = (started(sources["single"][0], step=step) for step in (5, None))
    assert_equal(early[0].params["head"]["b"] + 5, late[0].params["head"]["b"])
    # The weights are part of the run's identity, however they were selected.
    first, second = (with_options(config, {I + "step": None}) for *_, config in (early, late))
    assert None not in (first.training.initial.checksum, second.training.initial.checksum)
    assert identity(first) != identity(second)


@pytest.mark.parametrize(
    ("source", "options", "problem"),
    [
        ("none", {}, r"training\.initial\.run = '.*none': .*no config\.json"),
        ("single", {I + "step": 7}, r"no checkpoint of step 7 \(available: 5, 10\)"),
        ("single", {I + "replica": "a"}, "holds a single run, without replicas"),
        ("pair", {}, "holds several replicas; select one: a, b"),
        ("pair", {I + "replica": "b"}, "replica 'b' diverged"),
        ("single", {I + "modules": ("resnet", "heads")}, "no module 'heads' .*did you mean 'head'"),
        ("single", {I + "modules": ("transformer/layer",)}, "did you mean 'transformer/layers'"),
        ("single", {"model.num_labels": 50},
            r"(?s)do not fit.*head/b is float32 \[40\] there, float32 \[50\] here"),
        ("single", {"model.head_hidden_sizes": (4,), I + "modules": ("head_hidden_0",)},
            r"head_hidden_0/b is missing there, float32 \[4\] here"),
        ("single", {I + "checksum": 1}, "checksum = 1 is recorded, but the weights of"),
    ],
)  # fmt: skip
def test_unusable_sources_are_refused_before_anything_is_written(
    source, options, problem, sources, tmp_path
):
    folder = sources[source][0] if source in sources else tmp_path / "none"
    config = with_options(tiny.get_config("resnet"), {I + "run": str(folder), **options})
    with pytest.raises(ConfigError, match=problem):
        train(config, Workdir(tmp_path / "run"), Display())
    assert not (tmp_path / "run").exists()


def test_a_source_that_was_trained_on_held_out_classes_gives_a_warning(tmp_path, caplog):
    config = tiny.get_config("symbols")
    train(config, Workdir(tmp_path / "source"))
    weights = {I + "run": str(tmp_path / "source")}

    def warned(name, **options):
        caplog.clear()
        given = {path.replace("__", "."): value for path, value in options.items()}
        train(with_options(config, weights | given), Workdir(tmp_path / name))
        return [text for one in caplog.records if "was trained on" in (text := one.getMessage())]

    assert warned("same") == []
    # The same permutation, with more held-out classes.
    more = {"data__split__num_rare": 20, "data__split__num_holdout": 16}
    (message,) = warned("more", **more)
    assert "was trained on 8 of the 16 classes that are held out here" in message
    # Only a new run reads the weights.
    assert warned("more", **more, training__num_steps=50) == []
    sweep = tiny_sweep.get_sweep().with_base_options(weights)
    with pytest.raises(SweepError, match=r"condition .p=0.: replica .* of the 8 classes"):
        sweep.check()


def test_a_warning_follows_weights_that_were_inherited_twice(tmp_path, caplog):
    """The first run was trained on classes that the third one holds out, the second was not."""
    config, split = tiny.get_config("symbols"), {"data.split.seed": 1}
    folders = [tmp_path / name for name in ("first", "second", "third")]
    options = [{}, *({**split, I + "run": str(folder)} for folder in folders[:2])]
    for folder, given in zip(folders[:2], options[:2], strict=True):
        save_source(folder, with_options(config, given))
    third = with_options(config, options[2])
    first, there = (check(with_options(config, given))[0].task.space.split for given in ({}, split))
    held_out = {*there.class_ids[there.places("holdout")]}
    count = len(held_out & {*first.class_ids[first.places("zipfian")]})
    assert 0 < count < 8
    (warning,) = leaks.warnings(check(third))
    assert f"second' was trained on {count} of the 8 classes that are held out here" in warning
    assert list(leaks.doubts(check(third))) == []
    # The second run does not need the first one any more, but nobody can tell what it learned.
    folders[0].rename(tmp_path / "moved")
    assert list(leaks.warnings(check(third))) == []
    train(third, Workdir(folders[2]))
    (doubt,) = [text for text in caplog.messages if "it is unknown" in text]
    assert f"second' started from {folders[0]}, which cannot be read" in doubt
    # If the second one is gone as well, that is an error, not a doubt.
    folders[1].rename(tmp_path / "gone")
    _, (problem,) = initial.read(check(third))
    assert "second" in problem
    assert list(leaks.doubts(check(third))) == []
    (tmp_path / "gone").rename(folders[1])
    # A folder that was used again may seem to start from itself.
    shutil.copytree(folders[2], folders[0])
    assert list(leaks.doubts(check(third))) == []


MORE = {"data.symbolic.num_classes": 48, "model.num_symbols": 48, "data.split.num_holdout": 16}
DRAWINGS = {"data.drawings": "separated", "data.split.num_rare": 140, "data.split.num_common": 20}
TEN = {"data.glyphs.num_exemplars": 10}
VARIANTS = {"data.augment": True, "data.split.num_rare": 200, "data.split.num_common": 56}


@pytest.mark.parametrize(
    ("preset", "there", "here", "said"),
    [
        # More classes of the same kind: those that were there before are the same.
        ("symbols", {}, MORE, r"trained on \d+ of the 16 classes that are held out here"),
        ("vectors", {}, {"data.gaussian.num_classes": 48, "data.split.seed": 1},
            r"trained on \d of the 8 classes"),
        ("vectors", {}, {"data.gaussian.seed": 1, "data.split.seed": 1}, None),
        # Drawings and variants of a character are that character.
        ("images", DRAWINGS, {"data.split.seed": 1}, r"trained on \d of the 8 classes"),
        ("images", {}, VARIANTS | {"data.split.num_holdout": 64, "data.split.seed": 1},
            r"trained on \d+ of the 64 classes"),
        ("images", {}, VARIANTS | {"data.split.num_holdout": 64}, None),
        ("images", TEN, {**TEN, "data.split.num_holdout_exemplars": 2},
            "trained on 2 of the 2 exemplars that are held out here"),
        ("images", {**TEN, "data.split.num_holdout_exemplars": 2},
            {**TEN, "data.split.num_holdout_exemplars": 2}, None),
        # Other drawings of the same characters.
        ("images", {"data.glyphs.rotation": 0.0}, {"data.split.seed": 1},
            r"trained on \d of the 8 classes"),
        # Other characters.
        ("images", {}, {"data.glyphs.seed": 1, "data.split.seed": 1}, None),
    ],
)  # fmt: skip
def test_classes_are_recognized_under_other_options(preset, there, here, said, tmp_path):
    config = tiny.get_config(preset)
    workdir = Workdir(tmp_path / "source")
    workdir.make()
    workdir.claim(with_options(config, there))
    own = check(with_options(config, {**here, I + "run": str(workdir.path)}))
    found = list(leaks.warnings(own))
    assert len(found) == (said is not None), found
    assert said is None or re.search(said, found[0]), found
    assert not list(leaks.doubts(own))


def test_files_at_another_path_leave_a_doubt(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(40, 5, 16)).astype(np.float32)
    for name in ("there.npy", "here.npy"):
        np.save(tmp_path / name, vectors)
    config = with_options(tiny.get_config("vectors"), {"data.source": "features"})
    first, second = (
        with_options(config, {"data.features.path": str(tmp_path / name)})
        for name in ("there.npy", "here.npy")
    )
    workdir = Workdir(tmp_path / "source")
    workdir.make()
    workdir.claim(first)
    moved = check(with_options(second, {I + "run": str(workdir.path)}))
    assert not list(leaks.warnings(moved))
    (doubt,) = leaks.doubts(moved)
    assert "it has other options in data.features, so it is unknown" in doubt
    # The same path, written differently.
    again = {I + "run": str(workdir.path), "data.features.path": f"{tmp_path}/./there.npy"}
    assert not list(leaks.doubts(check(with_options(first, again))))


def test_held_out_exemplars_may_have_been_shown_under_another_number(tmp_path):
    config = with_options(tiny.get_config("images"), TEN)
    held_out = {"data.split.num_holdout_exemplars": 2}
    workdir = Workdir(tmp_path / "first")
    workdir.make()
    workdir.claim(with_options(config, {"data.glyphs.num_exemplars": 12}))
    run = check(with_options(config, {**held_out, I + "run": str(workdir.path)}))
    assert not list(leaks.warnings(run))
    (doubt,) = leaks.doubts(run)
    assert "classes or exemplars that are held out here" in doubt


def test_exemplars_of_classes_that_were_not_shared_do_not_leak(tmp_path):
    """The first run saw all exemplars, but of other classes; the second held some out."""
    config = with_options(tiny.get_config("images"), TEN)
    config = with_options(config, {"data.split.num_common": 0, "data.split.num_rare": 10})
    halves = [{"data.split.rare": tuple(range(start, start + 10))} for start in (0, 10)]
    held_out = {"data.split.holdout": tuple(range(30, 38))}
    few = {"data.split.num_holdout_exemplars": 2}
    chain = [{}, few, few]
    for index, (half, own) in enumerate(zip((0, 1, 1), chain, strict=True)):
        before = {I + "run": str(tmp_path / str(index - 1))} if index else {}
        run = with_options(config, {**halves[half], **held_out, **own, **before})
        workdir = Workdir(tmp_path / str(index))
        workdir.make()
        workdir.claim(run)
        assert not list(leaks.warnings(check(run)))
    (warning,) = leaks.warnings(
        check(with_options(run, {**halves[0], I + "run": str(tmp_path / "0")}))
    )
    assert "trained on 2 of the 2 exemplars" in warning


def test_weights_of_a_run_on_an_unknown_source_are_no_error(tmp_path):
    """Its extension is not imported; its classes are others."""
    config = tiny.get_config()
    workdir = Workdir(tmp_path / "source")
    workdir.make()
    workdir.claim(config)
    tree = json.loads(workdir.config.read_text())
    tree["data"]["source"] = "mosaics"
    workdir.config.write_text(json.dumps(tree))
    run = check(with_options(config, {I + "run": str(workdir.path)}))
    assert not list(leaks.warnings(run))
    assert not list(leaks.doubts(run))
    # Its sequence type may be unknown, too, and its classes are known nevertheless.
    tree["data"].update(source="symbolic")
    tree["data"]["sequences"]["type"] = "riddles"
    workdir.config.write_text(json.dumps(tree))
    run = check(with_options(config, {"data.split.seed": 1, I + "run": str(workdir.path)}))
    assert len(list(leaks.warnings(run))) == 1


def test_options_of_a_source_need_a_source():
    config = with_options(tiny.get_config(), {I + "modules": ("head",)})
    with pytest.raises(ConfigError, match=r"modules = .* needs training\.initial\.run"):
        check(config)


def test_damaged_weights_are_refused(sources, tmp_path):
    shutil.copytree(sources["single"][0], tmp_path / "source")
    path = tmp_path / "source/checkpoints/10/progress/metadata"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "weights": about["weights"] + 1}))
    with pytest.raises(ConfigError, match=r"step 10 in .* cannot be read: its checksum"):
        started(tmp_path / "source")


def test_each_replica_has_its_own_source(sources):
    """One of them has none."""
    folder, there = sources["single"]
    overrides = tuple(
        {"name": name, **{I + key: value for key, value in own.items()}}
        for name, own in (
            ("early", {"run": str(folder), "step": 5}), ("head", {"run": str(folder),
            "modules": ("head",)}), ("alone", {}),
        )
    )  # fmt: skip
    config = with_options(tiny.get_config("resnet"), {"training.replica_overrides": overrides})
    config, replicas, weights = initial.find(config, check(config), Workdir("not there"))
    experiment = build(config, replicas)
    state, own = initial.first_state(experiment, weights), initial_state(experiment)
    bias, table = state.params["head"]["b"], state.params["tokens"]["labels"]
    assert_equal(
        bias[:2], np.stack([there.params["head"]["b"][0] - 5, there.params["head"]["b"][0]])
    )
    assert_equal(table[1:], own.params["tokens"]["labels"][1:])
    assert_equal(bias[2], own.params["head"]["b"][2])


def records(folder):
    times = ("steps_per_second", "sequences_per_second")
    lines = read_metrics(Workdir(folder).metrics)
    return [{key: x for key, x in line.items() if key not in times} for line in lines]


def test_a_run_needs_its_source_only_at_the_start(tmp_path):
    """It resumes exactly after the source was moved, and never loads other weights."""
    source = tmp_path / "source"
    save_source(source, tiny.get_config())
    options = {I + "run": str(source), "training.num_steps": 20, "checkpoints.every": 10}
    config = with_options(tiny.get_config(), options)
    train(config, Workdir(tmp_path / "straight"), Display())
    polls = iter([None] * 10 + [signal.SIGTERM])
    with pytest.raises(Interrupted):
        train(config, Workdir(tmp_path / "run"), Display(), lambda: next(polls, None))
    source.rename(tmp_path / "moved")
    elsewhere = with_options(config, {I + "run": str(tmp_path / "moved")})
    with pytest.raises(
        WorkdirError, match=r"training\.initial\.run: .*source' there, .*moved' here"
    ):
        train(elsewhere, Workdir(tmp_path / "run"), Display())
    train(config, Workdir(tmp_path / "run"))
    assert records(tmp_path / "run") == records(tmp_path / "straight")
    assert train(config, Workdir(tmp_path / "run")).was_complete
    stored = load_run(tmp_path / "run").trained.training.initial
    assert stored.checksum == load_run(tmp_path / "straight").trained.training.initial.checksum
    # No other run can start once the source is gone. This one cannot resume without its weights.
    with pytest.raises(ConfigError, match="no config"):
        train(config, Workdir(tmp_path / "again"), Display())
    plain = with_options(config, {I + "run": "", I + "checksum": None})
    with pytest.raises((ConfigError, WorkdirError), match=r"training\.initial"):
        train(plain, Workdir(tmp_path / "run"), Display())
