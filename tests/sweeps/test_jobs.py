"""What is left to run, and under which settings, is read from what is there."""

import dataclasses

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.config.configs import with_options
from emergent_icl.runs.records import read_metrics
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.jobs import chosen_draw, copy_from_twin, draws, make_programs, with_twins
from emergent_icl.sweeps.spec import SweepError

PLAIN, SEARCHED = tiny_sweep.get_sweep(), tiny_sweep.get_sweep("searched")
RATE = "training.optimizer.learning_rate"


def seeds_of(program):
    return [one["training.seed"] for one in program.config.training.replica_overrides]


def test_every_condition_has_every_seed_as_replicas(tmp_path):
    programs = make_programs(PLAIN, (0, 1, 2), tmp_path, runs_per_program=2)
    assert [(one.name, seeds_of(one), one.num_runs) for one in programs] == [
        ("tiny/p=0/seeds=0-1", [0, 1], 2),
        ("tiny/p=0/seeds=2", [2], 1),
        ("tiny/p=1/seeds=0-1", [0, 1], 2),
        ("tiny/p=1/seeds=2", [2], 1),
    ]
    assert [one.config.data.sequences.p_bursty for one in programs] == [0.0, 0.0, 1.0, 1.0]
    assert all(one.workdir.path == tmp_path / one.name for one in programs)
    assert not any(tmp_path.iterdir())


def test_runs_that_are_there_are_used_however_the_rest_is_dealt_out(tmp_path):
    first, *_ = make_programs(PLAIN, (0, 1), tmp_path, runs_per_program=2)
    finish(first, Ends(icl=0.7, iwl=0.1))
    programs = make_programs(PLAIN, (0, 1, 2, 3, 5), tmp_path, runs_per_program=5)
    own = [one for one in programs if "p=0" in one.name]
    assert [(one.name, seeds_of(one)) for one in own] == [
        ("tiny/p=0/seeds=0-1", [0, 1]),
        ("tiny/p=0/seeds=2,3,5", [2, 3, 5]),
    ]
    assert [one.is_complete() for one in own] == [True, False]
    fewer = make_programs(PLAIN, (0,), tmp_path, runs_per_program=1)
    assert fewer[0].name == "tiny/p=0/seeds=0-1"


def test_runs_of_another_config_are_refused(tmp_path):
    finish(make_programs(PLAIN, (0,), tmp_path, 1)[0], Ends(icl=0.7))
    changed = PLAIN.with_base_options({"training.batch_size": 16})
    other = make_programs(changed, (0,), tmp_path, 1)[0]
    assert not other.is_complete()
    with pytest.raises(WorkdirError, match=r"training.batch_size: 8 there, 16 here"):
        other.check()


def test_longer_runs_go_on_and_shorter_ones_are_refused(tmp_path):
    finish(make_programs(PLAIN, (0,), tmp_path, 1)[0], Ends(icl=0.7))
    longer = PLAIN.with_base_options({"training.num_steps": 80})
    assert not make_programs(longer, (0,), tmp_path, 1)[0].is_complete()
    shorter = PLAIN.with_base_options({"training.num_steps": 20})
    with pytest.raises(WorkdirError, match=r"runs of 40 steps, but training.num_steps = 20"):
        make_programs(shorter, (0,), tmp_path, 1)[0].check()


def test_verdict_runs_wait_for_their_own_search_alone(tmp_path):
    programs = {one.name: one for one in make_programs(SEARCHED, (0,), tmp_path, 1)}
    assert list(programs) == [
        "tiny/p=0/search", "tiny/p=0/seeds=0", "tiny/p=1/search", "tiny/p=1/seeds=0",
    ]  # fmt: skip
    search = programs["tiny/p=0/search"]
    assert search.waits_for is None
    assert seeds_of(search) == [1000, 1000]
    assert programs["tiny/p=0/seeds=0"].waits_for.path == search.workdir.path
    finish(search, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
    programs = {one.name: one for one in make_programs(SEARCHED, (0,), tmp_path, 1)}
    assert programs["tiny/p=0/seeds=0"].waits_for is None
    assert programs["tiny/p=1/seeds=0"].waits_for is not None


def test_verdict_runs_have_the_setting_that_was_best(tmp_path):
    settings = SEARCHED.search.settings()
    ends = {"tiny/p=0/search": {"draw=0": 0.5, "draw=1": 0.7}}
    ends["tiny/p=1/search"] = {"draw=0": 0.6, "draw=1": 0.6}
    for program in make_programs(SEARCHED, (0,), tmp_path, 1):
        if program.name in ends:
            finish(program, Ends(icl=ends[program.name]))
    programs = {one.name: one for one in make_programs(SEARCHED, (0,), tmp_path, 1)}
    rates = [programs[f"tiny/p={p}/seeds=0"].config for p in (0, 1)]
    expected = [settings[1][RATE], settings[0][RATE]]  # Of equals, the first.
    assert [one.training.optimizer.learning_rate for one in rates] == expected


def test_draws_may_be_shorter_and_are_measured_as_often(tmp_path):
    shorter = dataclasses.replace(
        SEARCHED, search=dataclasses.replace(SEARCHED.search, num_steps=20)
    )
    search, runs, *_ = make_programs(shorter, (0,), tmp_path, 1)
    lengths = [
        (one.config.training.num_steps, one.config.evaluation.every, one.config.checkpoints.every)
        for one in (search, runs)
    ]
    assert lengths == [(20, 10, 10), (40, 20, 20)]
    finish(search, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
    assert search.is_complete()
    assert make_programs(shorter, (0,), tmp_path, 1)[1].waits_for is None


def test_a_draw_that_diverged_is_never_chosen(tmp_path):
    search = make_programs(SEARCHED, (), tmp_path, 1)[0]
    finish(search, Ends(icl=0.7), diverged=("draw=0",))
    assert chosen_draw(SEARCHED.search, search).name == "draw=1"
    assert [one.outcome.diverged_at_step for one in draws(SEARCHED.search, search)] == [1, None]
    finish(search, Ends(icl=0.7), diverged=("draw=0", "draw=1"))
    assert chosen_draw(SEARCHED.search, search) is None
    runs = make_programs(SEARCHED, (0,), tmp_path, 1)[1]
    assert runs.waits_for is not None


def shared_programs(root, seeds=(0, 1)):
    """Of two sweeps that have both conditions in common, but for one's name."""
    other = dataclasses.replace(
        PLAIN, name="other", conditions=(PLAIN.conditions[0]._replace(name="none"),)
    )
    return [one for s in (PLAIN, other) for one in make_programs(s, seeds, root, len(seeds))]


def test_of_equal_programs_one_runs_and_the_others_are_its_twins(tmp_path):
    programs = with_twins(shared_programs(tmp_path), tmp_path)
    assert [(one.name, one.twin and one.twin.name) for one in programs] == [
        ("tiny/p=0/seeds=0-1", None),
        ("tiny/p=1/seeds=0-1", None),
        ("other/none/seeds=0-1", "tiny/p=0/seeds=0-1"),
    ]


def test_what_is_complete_is_the_one_that_others_take_their_runs_from(tmp_path):
    finish(shared_programs(tmp_path)[2], Ends(icl=0.7))
    first, _, last = with_twins(shared_programs(tmp_path), tmp_path)
    assert last.twin is None
    assert first.twin.name == last.name
    first.workdir.make()
    copy_from_twin(first)
    first, _, last = with_twins(shared_programs(tmp_path), tmp_path)
    assert first.is_complete()
    assert (first.twin, last.twin) == (None, None)
    assert first.workdir.metrics.read_text() == last.workdir.metrics.read_text()
    # Prolonged, one leaves the other alone.
    assert first.workdir.metrics.stat().st_ino != last.workdir.metrics.stat().st_ino


def test_runs_of_a_sweep_that_is_not_run_now_are_used_too(tmp_path):
    *own, other = shared_programs(tmp_path)
    finish(other, Ends(icl=0.7))
    assert [one.twin and one.twin.name for one in with_twins(own, tmp_path)] == [other.name, None]


def test_a_copy_that_was_interrupted_is_made_anew(tmp_path):
    finish(shared_programs(tmp_path)[2], Ends(icl=0.7))
    left_over = tmp_path / "tiny" / "p=0" / "seeds=0-1"
    (left_over / "checkpoints" / "20").mkdir(parents=True)
    (left_over / "config.json.tmp").write_text("{")
    (left_over / "train.log").write_text("held by whoever copies")
    first, _, last = with_twins(shared_programs(tmp_path), tmp_path)
    assert not first.is_complete()
    copy_from_twin(first)
    assert first.is_complete()
    own = {path.name for path in left_over.iterdir()} - {"train.log"}
    assert own == {path.name for path in last.workdir.path.iterdir()}
    assert first.workdir.log.read_text() == "held by whoever copies"


def test_what_has_begun_on_its_own_goes_on_on_its_own(tmp_path):
    begun = shared_programs(tmp_path)[2]
    begun.workdir.make()
    begun.workdir.claim(begun.config)
    first, _, last = with_twins(shared_programs(tmp_path), tmp_path)
    assert last.twin is None
    assert first.twin.name == last.name


def test_other_seeds_and_settings_that_are_searched_have_no_twins(tmp_path):
    programs = make_programs(PLAIN, (0,), tmp_path, 1)
    programs += make_programs(dataclasses.replace(PLAIN, name="other"), (1,), tmp_path, 1)
    searched = dataclasses.replace(SEARCHED, name="searched")
    programs += make_programs(searched, (0,), tmp_path, 1)
    assert [one.twin for one in with_twins(programs, tmp_path)] == [None] * 8


def test_a_sweep_that_cannot_run_makes_no_program(tmp_path):
    wrong = dataclasses.replace(PLAIN, base=with_options(PLAIN.base, {"training.num_steps": -1}))
    with pytest.raises(SweepError, match=r"training\.num_steps = -1"):
        make_programs(wrong, (0,), tmp_path, 1)


def test_finished_runs_look_like_trained_ones(tmp_path):
    program = make_programs(PLAIN, (0, 1), tmp_path, 2)[0]
    finish(program, Ends(icl=0.5))
    assert [line["step"] for line in read_metrics(program.workdir.metrics)] == [20, 20, 40, 40]
