import json
import math
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from launching import PATIENCE, launch, start, train_flags, wait_for
from plots.layout import clashes

from benchmarks import baseline, figures, measure, plain_scan, small_models, suites
from benchmarks.baseline import make_baseline_network, query_scores
from benchmarks.explain import PARTS, Point, growths, verdict
from benchmarks.measure import FIGURES, SPEEDUPS, Benchmark, Measurement, Rival
from emergent_icl.data.task import make_task
from emergent_icl.models.network import make_network
from emergent_icl.presets import omniglot
from emergent_icl.training.build import build

COMMITTED = Path(__file__).parents[2] / "docs" / "performance" / "results.json"


class Clock:
    """A clock that advances only while a rival runs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, *seconds):
        """A rival that takes these times in turn, and then always the last one."""
        left = list(seconds)

        def run(count=1):
            self.now += count * (left.pop(0) if len(left) > 1 else left[0])

        return run


def test_rivals_are_timed_in_turn_after_a_warm_up():
    clock, order = Clock(), []
    # The first two blocks are not measured: compilation, and the choice of repetitions.
    slow, fast = clock.taking(100, 6, 6, 8, 10), clock.taking(100, 2, 2, 2, 4)

    def noted(name, run):
        return Rival(lambda count: (order.append(name), run(count)), amount=2)

    rivals = {"slow": noted("slow", slow), "fast": noted("fast", fast)}
    samples = measure.time_in_turn(rivals, 3, seconds=2, clock=clock)
    assert samples == {"slow": [3, 4, 5], "fast": [1, 1, 2]}
    assert order == ["slow"] * 2 + ["fast"] * 2 + ["slow", "fast"] * 3


def test_comparisons_record_medians_ranges_and_ratios(monkeypatch):
    samples = {"slow": [3, 4, 5], "fast": [1, 1, 2]}
    monkeypatch.setattr(measure, "time_in_turn", lambda *_: samples)
    bench = Benchmark({}, 3, 0.0)
    bench.compare("", "step_{}", dict.fromkeys(samples), "s", ("speedup", "slow", "fast"))
    assert bench.by_name["step_slow"] == Measurement("step_slow", 4, 3, 5, "s", 3)
    assert bench.by_name["step_speedup"] == Measurement("step_speedup", 4, 2.5, 4, "x", 3)
    assert bench.ratios == {"step_speedup": 4}
    bench.compare("", "{}_ms", dict.fromkeys(samples))
    bench.compare("", "{}_rate", dict.fromkeys(samples), "sequences/s")
    assert bench.by_name["slow_ms"].median == 4000
    assert bench.by_name["slow_rate"].median == 1 / 4


def test_a_measurement_has_median_and_range():
    measured = Benchmark({}, 1, 0.0).record("step", [500, 100, 200], "ms")
    assert measured == Measurement("step", 200, 100, 500, "ms", 3)


def test_blocks_have_their_length_even_if_the_first_repetitions_are_fast():
    clock = Clock()

    def fitted(*seconds, at_least=1):
        rival = Rival(clock.taking(*seconds), at_least=at_least)
        return rival, measure.repetitions(rival, 2, clock)

    # Compilation, then two fast repetitions from a buffer, then the true time.
    rival, count = fitted(30, 0.001, 0.001, 0.01)
    assert count == 200
    before = clock.now
    rival.run(count)
    assert clock.now - before == pytest.approx(2)
    assert fitted(5.0, at_least=2)[1] == 2
    assert fitted(0.0)[1] == measure.MOST_REPETITIONS
    # Without a length, there is no warm-up.
    before = clock.now
    assert measure.repetitions(Rival(clock.taking(5.0), at_least=3), 0, clock) == 3
    assert clock.now == before


def test_growth_is_judged_by_operations_and_traffic():
    linear = [Point(size, 0.001 * size, 1e6 * size, 1e3) for size in (10, 100, 1000)]
    square = [Point(size, 1e-5 * size**2, 1e6 * size, 1e3) for size in (10, 100)]
    moving = [point._replace(bytes=point.size**2) for point in square]
    found = {"batch": growths(linear), "classes": growths(square)}
    assert [one.time for one in found["batch"]] == pytest.approx([1, 1])
    fine = {"batch": found["batch"], "moving": growths(moving)}
    assert verdict(fine) == ["Nothing grows faster than its operations or its memory traffic."]
    assert verdict(found) == [
        "classes 10 -> 100: time grows as size^2.00, operations as size^1.00, memory traffic as "
        "size^0.00"
    ]


def test_measurements_are_named_after_rivals(capsys):
    rivals = {name: Rival(lambda count: None) for name in ("ours", "baseline")}
    speedup = ("speedup", "baseline", "ours")
    both, alone = Benchmark({}, 3, 0.0), Benchmark({}, 3, 0.0)
    both.compare("A mode", "eval_mode_{}", rivals, "ms/sequence", speedup)
    assert list(both.by_name) == [f"eval_mode_{n}" for n in ("ours", "baseline", "speedup")]
    assert set(both.ratios) == {"eval_mode_speedup"}
    assert {one.runs for one in both.by_name.values()} == {3}
    printed = capsys.readouterr().out
    assert "A mode, ms/sequence" in printed
    assert all(name in printed for name in ("ours", "baseline", "speedup"))
    del rivals["baseline"]
    alone.compare("A mode", "eval_mode_{}", rivals, "ms/sequence", speedup)
    assert list(alone.by_name) == ["eval_mode_ours"]
    assert not alone.ratios
    alone.compare("", "launch_{}", rivals, "s", share=0)
    assert alone.by_name["launch_ours"].unit == "s"


def test_every_name_of_the_committed_results_belongs_to_a_suite():
    written = json.loads(COMMITTED.read_text())
    assert set(written["speedups"]) == set(SPEEDUPS)
    assert set(written["figures"]) == set(FIGURES)
    bench = Benchmark(
        {}, 5, 2.0,
        by_name={one["name"]: Measurement(**one) for one in written["measurements"]},
        ratios={f"{name}_speedup": value for name, value in written["speedups"].items()},
        extra={"growth": written["growth"]},
    )  # fmt: skip
    # Except for the lower bound, whose ratio was not recorded then.
    speedups = {f"{name}_speedup" for name in SPEEDUPS}
    assert speedups | set(FIGURES.values()) - {"step_paper_over_floor"} <= set(bench.by_name)
    panels = figures.make_panels(bench)
    assert all(panels.values())
    assert clashes(figures.overview_figure(panels, "A title")) == []
    assert len(figures.growth_figure(written["growth"], "A title").axes) == 5


# ------------------------------------------------------------------------ the baseline


def renamed(module, leaf):
    """Our (module, leaf) -> the baseline's, with {} in place of the layer's number."""
    module = re.sub(r"^resnet/group_(\d)_block_(\d)/", r"group_\1/~/block_\2/~/", module)
    module = re.sub(r"^(resnet|transformer)/(?!layers)", "", module)
    if module.startswith("transformer/layers/block/"):
        module = "block_{}_" + module.removeprefix("transformer/layers/block/").replace("/", "_")
        module = re.sub(r"_attention_(?!norm)", "_attention/", module).replace("/output", "/linear")
    return module, leaf


def carried_over(params, num_layers):
    """Our parameters in the structure of the baseline's."""
    theirs = {}
    for module, leaves in params.items():
        for leaf, value in leaves.items():
            name, its_leaf = renamed(module, leaf)
            layers = range(num_layers) if "{}" in name else [None]
            for i in layers:
                own = value if i is None else value[i]
                theirs.setdefault(name.format(i), {})[its_leaf] = own
    return theirs


@pytest.mark.parametrize(
    ("preset", "is_training"), [("images", True), ("resnet", True), ("resnet", False)]
)
def test_the_baseline_is_the_same_model(preset, is_training):
    config = tiny.get_config(preset).unlock()
    config.model.num_layers = 2
    task = make_task(config)
    ours = make_network(config.model, task.num_labels)
    theirs = make_baseline_network(config.model, task.num_labels)
    rng = np.random.default_rng(0)
    examples = rng.random((4, 9, 12, 12, 1), np.float32)
    labels = rng.integers(task.num_labels, size=(4, 9)).astype(np.int32)
    params, stats = jax.jit(ours.init)(jax.random.PRNGKey(0), examples, labels)
    # Branches with a scale of zero would go unchecked.
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.random(leaf.shape, np.float32), params)
    key = jax.random.PRNGKey(1)
    template, their_stats = jax.eval_shape(lambda: theirs.init(key, examples, labels, True))
    moved, moved_stats = carried_over(params, 2), carried_over(stats, 2)
    assert jax.tree.map(np.shape, moved) == jax.tree.map(np.shape, template)
    assert jax.tree.map(np.shape, moved_stats) == jax.tree.map(np.shape, their_stats)

    logits, _ = jax.jit(lambda: ours.apply(params, stats, None, examples, labels, is_training))()
    other, _ = jax.jit(
        lambda: theirs.apply(moved, moved_stats, None, examples, labels, is_training)
    )()
    assert other.shape == (4, 17, task.num_labels)
    np.testing.assert_allclose(other[:, -1], logits, atol=2e-4)
    assert np.ptp(logits) > 0.1


def test_the_baseline_has_the_papers_size():
    config = omniglot.get_config("paper")
    network = make_baseline_network(config.model, 1623)
    images, labels = np.zeros((1, 9, 105, 105, 1), np.float32), np.zeros((1, 9), np.int32)
    params, stats = jax.eval_shape(
        lambda: network.init(jax.random.PRNGKey(0), images, labels, True)
    )
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 831_479
    del stats


def test_query_scores_are_those_of_the_last_token():
    logits = np.full((2, 17, 5), -3.0, np.float32)
    logits[:, -1] = np.log([0.1, 0.2, 0.4, 0.2, 0.1])
    labels = np.zeros((2, 9), np.int32)
    labels[:, -1] = [2, 1]
    loss, accuracy = query_scores(logits, labels)
    assert loss == pytest.approx(-np.log(0.4 * 0.2) / 2)
    assert accuracy == 0.5


# ---------------------------------------------------------------- the baseline's data


@pytest.fixture
def experiment():
    config = tiny.get_config("images").unlock()
    config.data.noise_scale = 0.0
    config.data.sequences.p_bursty = 1.0
    return build(config.lock())


def test_the_baselines_sequences_are_the_papers(experiment):
    modes = (None, "fewshot_holdout", "no_support_zipfian")
    training, fewshot, no_support = (baseline.sequences(experiment, mode) for mode in modes)
    assert baseline.why_not(experiment.config) is None
    banks = experiment.bank.examples.astype(np.float32)[..., None] / 255
    ids = experiment.task.space.split.class_ids
    for _ in range(20):
        images, labels = next(training)
        assert images.shape == (9, 12, 12, 1)
        assert (images.dtype, labels.dtype) == (np.float32, np.int32)
        counts = np.unique(labels[:-1], return_counts=True)[1]
        assert sum(counts[counts >= 3]) >= 6
        assert list(labels[:-1]).count(labels[-1]) >= 3
        for image, label in zip(images, labels, strict=True):
            assert any(np.array_equal(image, drawing) for drawing in banks[ids[label]])
        images, labels = next(fewshot)
        assert np.bincount(labels[:-1]).tolist() == [4, 4]
        assert any(
            np.array_equal(images[-1], drawing)
            for drawing in banks[ids[32:]].reshape(-1, 12, 12, 1)
        )
        images, labels = next(no_support)
        assert labels[-1] not in labels[:-1]
        assert labels.max() < 32


def test_the_baselines_feed_batches_them(experiment):
    pytest.importorskip("tensorflow")  # Has no wheels for Python 3.14.
    feed = baseline.training_feed(experiment)
    images, labels = next(feed)
    feed.close()
    assert images.shape == (8, 9, 12, 12, 1)
    assert labels.shape == (8, 9)
    again, _ = baseline.training_batch(experiment)
    np.testing.assert_array_equal(images, again)


def test_the_baseline_states_what_it_does_not_support():
    reason = baseline.why_not(tiny.get_config("symbols"))
    assert "data.source = 'omniglot' or 'glyphs'" in reason
    assert "model.encoder = 'resnet' or 'mlp'" in reason


# ------------------------------------------------------------------------ the launcher


@pytest.mark.faults
def test_a_benchmark_writes_every_key(tmp_path):
    done = launch(
        "benchmark", "--config=tests/tiny.py:images", "--config.data.noise_scale=0.0",
        "--suite=step", "--rounds=2", "--seconds=0.05", f"--out={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "times the lower bound" in done.stdout
    assert "sequence model" in done.stdout
    written = json.loads((tmp_path / "results.json").read_text())
    assert {"machine", "versions", "measurements", "speedups", "figures"} <= set(written)
    assert written["versions"]["jax"] == jax.__version__
    # Speedups and figures are those of the presets.
    assert written["speedups"] == dict.fromkeys(SPEEDUPS)
    assert written["figures"] == dict.fromkeys(FIGURES)
    by_name = {one["name"]: one for one in written["measurements"]}
    assert by_name["step_config_compute_speedup"]["median"] > 0
    assert written["floor"]["seconds"] > 0
    assert set(written["profile"]) == set(PARTS)
    for one in written["measurements"]:
        assert list(one) == ["name", "median", "min", "max", "unit", "runs"]
        assert 0 <= one["min"] <= one["median"] <= one["max"]
        assert one["runs"] == 2
    assert (tmp_path / "benchmark.png").stat().st_size > 1000


ENDED = """
import sys
from pathlib import Path
from benchmarks import suites, worker
worker.end_with_children()
suites.train_to_first_step(sys.argv[2:], Path(sys.argv[1]))
"""


@pytest.mark.faults
def test_a_timed_launcher_ends_with_the_benchmark(tmp_path):
    process = start("-c", ENDED, tmp_path / "cache", *train_flags(tmp_path / "run"))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for((tmp_path / "run").exists, "the launcher to start")
    (launcher,) = children.read_text().split()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert not Path(f"/proc/{launcher}").exists()


def test_an_unknown_suite_is_refused_in_one_message(tmp_path):
    done = launch("benchmark", "--suite=stepp", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "suite 'stepp' is unknown (allowed: accelerator, all, data, default" in done.stderr
    assert "did you mean 'step'?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_texts_of_the_figure_do_not_overlap():
    bench = Benchmark({}, 1, 0.0)
    for name, value in {"step_paper_compute": 3.0, "eval_no_support_paper": 40.0}.items():
        bench.ratios[f"{name}_speedup"] = value
        bench.record(f"{name}_speedup", [value / 2, value, 2 * value], "x")
    for i, part in enumerate(PARTS):
        bench.record(f"part_{part}", [0, 0.01 + i, 6], "ms/step")
    panels = {title: rows for title, rows in figures.make_panels(bench).items() if rows}
    assert len(panels) == 2
    assert clashes(figures.overview_figure(panels, "A title")) == []


@pytest.mark.parametrize("shape", small_models.SHAPES)
def test_the_plain_scan_is_the_same_network(shape):
    options = {"data.gaussian.num_classes": 63, "data.split.num_rare": 40}
    experiment = build(small_models.small_model(shape, **options))
    task, params = experiment.task, experiment.init(3).params
    batch = task.training.sample(np.random.default_rng(1), 4)
    examples = experiment.arrays().examples[batch.class_ids, batch.exemplar_ids]
    expected, _ = experiment.network.apply(params, {}, None, examples, batch.labels, True, "query")
    heads = experiment.config.model.num_heads
    found = plain_scan.query_logits(params, examples, batch.labels, heads)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    rival = plain_scan.plain_scan(experiment)
    rival.run(1)
    assert rival.amount == 10


def test_a_launch_is_timed_to_its_first_step_and_its_memory_is_measured(tmp_path):
    megabytes = suites.train_to_first_step(train_flags(tmp_path / "run"), tmp_path / "cache")
    assert 100 < megabytes < 10_000
    assert list((tmp_path / "cache").iterdir())
