"""Existing folders determine the remaining jobs and their settings."""

import dataclasses
import json

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import identity
from emergent_icl.runs.progress import NonFiniteLossError
from emergent_icl.runs.records import read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.evidence import read_runs
from emergent_icl.sweeps.jobs import chosen_draw, distinct, draws, make_jobs
from emergent_icl.sweeps.spec import SweepError

PLAIN, SEARCHED = tiny_sweep.get_sweep(), tiny_sweep.get_sweep("searched")
RATE = "training.optimizer.learning_rate"


def seeds_of(job):
    return [one["training.seed"] for one in job.config.training.replica_overrides]


def test_each_condition_trains_all_seeds_as_replicas(tmp_path):
    jobs = make_jobs(tiny_sweep.seeded([PLAIN], (0, 1, 2)), tmp_path, runs_per_job=2)
    assert [(one.name, seeds_of(one), one.num_runs) for one in jobs] == [
        ("tiny/p=0/seeds=0-1", [0, 1], 2),
        ("tiny/p=0/seeds=2", [2], 1),
        ("tiny/p=1/seeds=0-1", [0, 1], 2),
        ("tiny/p=1/seeds=2", [2], 1),
    ]
    assert [one.config.data.sequences.p_bursty for one in jobs] == [0.0, 0.0, 1.0, 1.0]
    assert all(one.workdir.path == tmp_path / one.name for one in jobs)
    assert not any(tmp_path.iterdir())


def test_existing_runs_are_used_with_any_number_of_runs_per_job(tmp_path):
    first, *_ = make_jobs(tiny_sweep.seeded([PLAIN], (0, 1)), tmp_path, runs_per_job=2)
    finish(first, Ends(icl=0.7, iwl=0.1))
    jobs = make_jobs(tiny_sweep.seeded([PLAIN], (0, 1, 2, 3, 5)), tmp_path, runs_per_job=5)
    own = [one for one in jobs if "p=0" in one.name]
    assert [(one.name, seeds_of(one)) for one in own] == [
        ("tiny/p=0/seeds=0-1", [0, 1]),
        ("tiny/p=0/seeds=2,3,5", [2, 3, 5]),
    ]
    assert [one.is_complete() for one in own] == [True, False]
    fewer = make_jobs(tiny_sweep.seeded([PLAIN], (0,)), tmp_path, runs_per_job=1)
    assert fewer[0].name == "tiny/p=0/seeds=0-1"


def test_runs_of_another_config_are_rejected(tmp_path):
    finish(make_jobs(tiny_sweep.seeded([PLAIN], (0,)), tmp_path, 1)[0], Ends(icl=0.7))
    changed = PLAIN.with_base_options({"training.batch_size": 16})
    other = make_jobs(tiny_sweep.seeded([changed], (0,)), tmp_path, 1)[0]
    assert not other.is_complete()
    with pytest.raises(WorkdirError, match=r"training.batch_size: 8 there, 16 here"):
        other.check()


@pytest.mark.parametrize(("option", "value"), [("evaluation.ways", 4), ("model.num_labels", 50)])
def test_runs_measured_with_an_option_that_the_sweep_leaves_unset_are_rejected(
    option, value, tmp_path
):
    """A single run would keep it, but results would state the chance of the sweep's own config."""
    other = {option: value}
    if option == "evaluation.ways":
        other["evaluation.shots"] = 2
    (measured,) = tiny_sweep.seeded([PLAIN.with_base_options(other)], (0,))
    (plain,) = tiny_sweep.seeded([PLAIN], (0,))
    jobs = make_jobs([measured], tmp_path, 1)
    for job in jobs:
        finish(job, Ends(icl=0.7, iwl=0.1))
    found = make_jobs([plain], tmp_path, 1)[0]
    assert found.workdir.path == jobs[0].workdir.path
    assert not found.is_complete()
    with pytest.raises(WorkdirError, match=rf"{option}: {value} there, unset here\n.*--set"):
        found.check()
    again = make_jobs([measured], tmp_path, 1)[0]
    again.check()
    assert again.is_complete()


def test_a_job_that_is_started_again_keeps_what_its_run_recorded(tmp_path):
    """Otherwise, the checkpoints would belong to a run with another config."""
    (sweep,) = tiny_sweep.seeded([PLAIN.with_base_options({"training.steps_per_call": None})], (0,))
    job = make_jobs([sweep], tmp_path, 1)[0]
    job.workdir.make()
    job.workdir.claim(with_options(job.config, {"training.steps_per_call": 10}))
    # An earlier version, which had fewer options.
    tree = json.loads(job.workdir.config.read_text())
    del tree["data"]["sequences"]["draws"], tree["training"]["arithmetic"]
    job.workdir.config.write_text(json.dumps(tree))
    before = job.workdir.read_config()
    assert before.data.sequences.draws == before.training.arithmetic == 1
    for _ in range(2):
        job.check()
        job.claim()
        assert identity(job.workdir.read_config()) == identity(before)
    assert json.loads(job.workdir.config.read_text()) == tree
    longer = job._replace(config=with_options(job.config, {"training.num_steps": 80}))
    longer.claim()
    assert job.workdir.read_config().training.num_steps == 80
    assert identity(job.workdir.read_config()) == identity(before)


def test_missing_initial_weights_are_reported_before_any_run(tmp_path):
    source = tmp_path / "source"
    started = PLAIN.with_base_options({"training.initial.run": str(source)})
    job = make_jobs(tiny_sweep.seeded([started], (0, 1)), tmp_path, 2)[0]
    with pytest.raises(
        WorkdirError, match=r"(?s)replica 'seed=0': training.initial.run = .*source"
    ):
        job.check()
    finish(make_jobs(tiny_sweep.seeded([PLAIN], (0,)), source, 1)[0], Ends(icl=0.7))
    (source / "tiny").rename(tmp_path / "moved")
    there = {"training.initial.run": str(tmp_path / "moved/p=0/seeds=0")}
    started = PLAIN.with_base_options(there)
    job = make_jobs(tiny_sweep.seeded([started], (0,)), tmp_path, 1)[0]
    with pytest.raises(WorkdirError, match="seeds=0 has no checkpoints yet"):
        job.check()


def test_runs_can_be_extended_but_not_shortened(tmp_path):
    finish(make_jobs(tiny_sweep.seeded([PLAIN], (0,)), tmp_path, 1)[0], Ends(icl=0.7))
    longer = PLAIN.with_base_options({"training.num_steps": 80})
    assert not make_jobs(tiny_sweep.seeded([longer], (0,)), tmp_path, 1)[0].is_complete()
    shorter = PLAIN.with_base_options({"training.num_steps": 20})
    with pytest.raises(WorkdirError, match=r"runs of 40 steps, but training.num_steps = 20"):
        make_jobs(tiny_sweep.seeded([shorter], (0,)), tmp_path, 2)[0].check()


def test_verdict_runs_wait_only_for_their_own_search(tmp_path):
    jobs = {one.name: one for one in make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path, 2)}
    assert list(jobs) == [
        "tiny/p=0/search", "tiny/p=0/seeds=0", "tiny/p=1/search", "tiny/p=1/seeds=0",
    ]  # fmt: skip
    search = jobs["tiny/p=0/search"]
    assert not search.waits_for
    assert seeds_of(search) == [1000, 1000]
    assert jobs["tiny/p=0/seeds=0"].waits_for[0].path == search.workdir.path
    finish(search, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
    jobs = {one.name: one for one in make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path, 2)}
    assert not jobs["tiny/p=0/seeds=0"].waits_for
    assert jobs["tiny/p=1/seeds=0"].waits_for


def test_verdict_runs_use_the_best_setting(tmp_path):
    settings = SEARCHED.search.settings()
    ends = {"tiny/p=0/search": {"draw=0": 0.5, "draw=1": 0.7}}
    ends["tiny/p=1/search"] = {"draw=0": 0.6, "draw=1": 0.6}
    for job in make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path, 2):
        if job.name in ends:
            finish(job, Ends(icl=ends[job.name]))
    jobs = {one.name: one for one in make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path, 2)}
    rates = [jobs[f"tiny/p={p}/seeds=0"].config for p in (0, 1)]
    expected = [settings[1][RATE], settings[0][RATE]]  # The first one if tied.
    assert [one.training.optimizer.learning_rate for one in rates] == expected


def test_shorter_draws_have_as_many_evaluations(tmp_path):
    shorter = dataclasses.replace(
        SEARCHED, search=dataclasses.replace(SEARCHED.search, num_steps=20)
    )
    search, runs, *_ = make_jobs(tiny_sweep.seeded([shorter], (0,)), tmp_path, 2)
    lengths = [
        (one.config.training.num_steps, one.config.evaluation.every, one.config.checkpoints.every)
        for one in (search, runs)
    ]
    assert lengths == [(20, 10, 10), (40, 20, 20)]
    finish(search, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
    assert search.is_complete()
    assert not make_jobs(tiny_sweep.seeded([shorter], (0,)), tmp_path, 2)[1].waits_for


def test_the_lowest_loss_is_chosen(tmp_path):
    by_loss = dataclasses.replace(SEARCHED.search, choose_by="eval/fewshot_holdout/loss")
    search = make_jobs(tiny_sweep.seeded([SEARCHED], ()), tmp_path, 2)[0]
    losses = {"draw=0": 0.1, "draw=1": 3.0}
    finish(search, Ends(**{by_loss.choose_by: losses}))
    assert chosen_draw(by_loss, [search]).run.replica == "draw=0"


def test_a_diverged_draw_is_never_chosen(tmp_path):
    search = make_jobs(tiny_sweep.seeded([SEARCHED], ()), tmp_path, 2)[0]
    finish(search, Ends(icl=0.7), diverged=("draw=0",))
    assert chosen_draw(SEARCHED.search, [search]).run.replica == "draw=1"
    assert [one.run.diverged_at_step for one in draws(SEARCHED.search, [search])] == [1, None]
    finish(search, Ends(icl=0.7), diverged=("draw=0", "draw=1"))
    assert chosen_draw(SEARCHED.search, [search]) is None
    runs = make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path, 2)[1]
    assert runs.waits_for


OTHER = dataclasses.replace(
    PLAIN, name="other", conditions=(PLAIN.conditions[0]._replace(name="none"),)
)


def names(sweeps, root, seeds=(0, 1), runs_per_job=2):
    return [job.name for job in make_jobs(tiny_sweep.seeded(sweeps, seeds), root, runs_per_job)]


def test_conditions_with_equal_configs_share_a_job(tmp_path):
    jobs = make_jobs(tiny_sweep.seeded([PLAIN, OTHER], (0, 1)), tmp_path, 2)
    assert [(job.sweep, job.condition, job.name) for job in jobs] == [
        ("tiny", "p=0", "tiny/p=0/seeds=0-1"),
        ("tiny", "p=1", "tiny/p=1/seeds=0-1"),
        ("other", "none", "tiny/p=0/seeds=0-1"),
    ]
    assert [job.name for job in distinct(jobs)] == ["tiny/p=0/seeds=0-1", "tiny/p=1/seeds=0-1"]


def test_complete_runs_are_shared_with_any_number_of_runs_per_job(tmp_path):
    for job in make_jobs(tiny_sweep.seeded([OTHER], (0, 1)), tmp_path, 1):
        finish(job, Ends(icl=0.7))
    # Even without the sweep that they belong to.
    for sweeps in ([PLAIN], [PLAIN, OTHER]):
        assert names(sweeps, tmp_path, (0, 1, 2))[:3] == [
            "other/none/seeds=0", "other/none/seeds=1", "tiny/p=0/seeds=2",
        ]  # fmt: skip
    # Longer runs are different runs.
    longer = PLAIN.with_base_options({"training.num_steps": 80})
    assert names([longer], tmp_path)[0] == "tiny/p=0/seeds=0-1"


def test_started_jobs_resume_in_their_folder(tmp_path):
    begun = make_jobs(tiny_sweep.seeded([OTHER], (0, 1)), tmp_path, 2)[0]
    begun.workdir.make()
    begun.workdir.claim(begun.config)
    shared = "other/none/seeds=0-1"
    assert names([PLAIN, OTHER], tmp_path) == [shared, "tiny/p=1/seeds=0-1", shared]
    # Another command's job may still be running.
    assert names([PLAIN], tmp_path)[0] == "tiny/p=0/seeds=0-1"
    finish(make_jobs(tiny_sweep.seeded([PLAIN], (0, 1)), tmp_path, 2)[0], Ends(icl=0.7))
    assert names([PLAIN, OTHER], tmp_path)[2] == shared


def test_a_search_is_split_into_programs_and_its_draws_are_shared(tmp_path):
    search = dataclasses.replace(SEARCHED.search, draws=3)
    first = dataclasses.replace(SEARCHED, search=search)
    second = dataclasses.replace(first, name="searched")

    def found(sweeps, runs_per_job):
        jobs = make_jobs(tiny_sweep.seeded(sweeps, (0,)), tmp_path, runs_per_job)
        return [job for job in jobs if job.condition == "p=0"]

    *parts, runs = found([first], 2)
    assert [job.name for job in parts] == ["tiny/p=0/draws=0-1", "tiny/p=0/draws=2"]
    assert [job.num_runs for job in parts] == [2, 1]
    assert all(job.is_search for job in parts)
    assert [one.path for one in runs.waits_for] == [job.workdir.path for job in parts]
    finish(parts[0], Ends(icl={"draw=0": 0.5, "draw=1": 0.6}))
    # What has begun stays; only the rest is split otherwise. Nothing is chosen before the end.
    *_, runs = found([first], 1)
    assert runs.waits_for
    assert [job.name for job in found([first], 0)] == [*(job.name for job in parts), runs.name]
    finish(parts[1], Ends(icl=0.7))
    for runs_per_job in (0, 1, 2):
        *again, runs = found([second], runs_per_job)
        assert [job.name for job in again] == [job.name for job in parts]
        assert not runs.waits_for
        assert runs.config.training.optimizer.learning_rate == search.settings()[2][RATE]
    assert [one.run.replica for one in draws(search, parts)] == ["draw=0", "draw=1", "draw=2"]


def test_a_folder_with_more_draws_is_refused(tmp_path):
    more = dataclasses.replace(SEARCHED.search, draws=3)
    larger = dataclasses.replace(SEARCHED, search=more)
    finish(make_jobs(tiny_sweep.seeded([larger], (0,)), tmp_path)[0], Ends(icl=0.7))
    search, *_ = make_jobs(tiny_sweep.seeded([SEARCHED], (0,)), tmp_path)
    assert not search.is_complete()
    with pytest.raises(WorkdirError, match="replica_overrides"):
        search.check()


def test_equal_searches_and_the_runs_that_wait_for_them_are_shared(tmp_path):
    sweeps = [SEARCHED, dataclasses.replace(SEARCHED, name="searched")]
    own = [
        "tiny/p=0/search", "tiny/p=0/seeds=0", "tiny/p=1/search", "tiny/p=1/seeds=0",
    ]  # fmt: skip
    assert names(sweeps, tmp_path, (0,)) == [*own, *own]
    jobs = distinct(make_jobs(tiny_sweep.seeded(sweeps, (0,)), tmp_path, 2))
    assert [job.name for job in jobs] == [own[0], own[2], own[1], own[3]]
    for job in jobs[:2]:
        finish(job, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
    jobs = make_jobs(tiny_sweep.seeded(sweeps[1:], (0,)), tmp_path, 2)
    assert [job.name for job in jobs] == [
        own[0], "searched/p=0/seeds=0", own[2], "searched/p=1/seeds=0",
    ]  # fmt: skip
    assert not all(job.waits_for for job in jobs)


def test_runs_of_other_seeds_are_not_shared(tmp_path):
    finish(make_jobs(tiny_sweep.seeded([OTHER], (0, 1)), tmp_path, 2)[0], Ends(icl=0.7))
    assert names([PLAIN], tmp_path, (2,))[0] == "tiny/p=0/seeds=2"


def test_runs_on_a_fixed_split_are_not_shared_with_replicates_on_their_own_splits(tmp_path):
    """Their configs are equal, but their seeds set different options."""
    fixed = dataclasses.replace(OTHER, split="fixed")
    finish(make_jobs(tiny_sweep.seeded([fixed], (0, 1)), tmp_path)[0], Ends(icl=0.7))
    assert names([PLAIN], tmp_path)[0] == "tiny/p=0/seeds=0-1"
    assert names([dataclasses.replace(PLAIN, split="fixed")], tmp_path)[0] == "other/none/seeds=0-1"
    own = make_jobs(tiny_sweep.seeded([OTHER], (0, 1)), tmp_path)[0]
    with pytest.raises(WorkdirError, match=r"training\.replica_overrides"):
        own.check()


def test_an_invalid_sweep_makes_no_jobs(tmp_path):
    wrong = dataclasses.replace(PLAIN, base=with_options(PLAIN.base, {"training.num_steps": -1}))
    with pytest.raises(SweepError, match=r"training\.num_steps = -1"):
        make_jobs(tiny_sweep.seeded([wrong], (0,)), tmp_path, 1)


def test_finished_runs_look_like_trained_ones(tmp_path):
    job = make_jobs(tiny_sweep.seeded([PLAIN], (0, 1)), tmp_path, 2)[0]
    finish(job, Ends(icl=0.5))
    assert [line["step"] for line in read_metrics(job.workdir.metrics)] == [20, 20, 40, 40]


@pytest.mark.usefixtures("quick_runs")
def test_a_search_is_complete_if_a_program_of_its_own_diverges(tmp_path):
    space = {RATE: (1e-15, 1e30)}
    search = dataclasses.replace(SEARCHED.search, space=space, num_steps=20)
    sweep = dataclasses.replace(SEARCHED, search=search, conditions=SEARCHED.conditions[:1])

    def jobs():
        return make_jobs(tiny_sweep.seeded([sweep], (0,)), tmp_path, 1)

    sound, diverging, runs = jobs()
    assert runs.waits_for
    train(sound.config, sound.workdir)
    with pytest.raises(NonFiniteLossError):
        train(diverging.config, diverging.workdir)
    *_, runs = jobs()
    assert not runs.waits_for
    assert runs.config.training.optimizer.learning_rate == search.settings()[0][RATE]
    tried = draws(search, [sound, diverging])
    assert [one.run.diverged_at_step is None for one in tried] == [True, False]


def test_metrics_without_the_last_evaluation_are_not_judged(tmp_path):
    """As after a copy that was interrupted."""
    job = make_jobs(tiny_sweep.seeded([PLAIN], (0, 1)), tmp_path, 2)[0]
    finish(job, Ends(icl=0.5), diverged=("seed=0",))
    *lines, last = job.workdir.metrics.read_text().splitlines(keepends=True)
    assert len(read_runs(job.workdir)) == 2
    job.workdir.metrics.write_text("".join(lines))
    said = r"metrics\.jsonl lacks the evaluation of seed=1 at step 40, .* copy the folder again"
    for judged in (lambda: read_runs(job.workdir), job.check):
        with pytest.raises(WorkdirError, match=said):
            judged()
    job.workdir.metrics.write_text("".join([*lines, last]))
    assert [run.final for run in read_runs(job.workdir)] == [{}, {"icl": 0.5}]
