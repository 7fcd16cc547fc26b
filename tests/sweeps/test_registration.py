"""Registrations before the runs; any later difference is named."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.config.configs import with_options
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.claims import Claim, Difference, Within
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.registration import (
    CHANGED,
    FILE,
    as_registered,
    content_of,
    differences,
    hash_of,
    read,
    register,
    status,
)
from emergent_icl.sweeps.spec import Condition, SweepError, over

PLAIN, SEARCHED = tiny_sweep.get_sweep(), tiny_sweep.get_sweep("searched")
LATER, EARLIER = "2999-01-01T00:00:00Z", "2000-01-01T00:00:00Z"


def changed(sweep=PLAIN, **fields):
    return dataclasses.replace(sweep, **fields)


def marks(sweeps, root):
    """The status of each sweep, without date and hash."""
    which = re.compile(r" on \S+ as \w{12}( \(in no file at HEAD\))?")
    return {name: which.sub("", one) for name, one in status(sweeps, root)["status"].items()}


def mark(sweep, root):
    return marks([sweep], root)[sweep.name]


def finish_all(sweep, root, **options):
    for job in make_jobs([sweep], root):
        finish(job, Ends(icl=0.7, iwl=0.1), **options)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A folder that contains only a registration."""
    folder = tmp_path_factory.mktemp("registered")
    register([SEARCHED], folder)
    return folder


def test_a_registration_contains_everything_that_decides_a_verdict(registered):
    made = json.loads((registered / FILE).read_text())
    own = made["sweeps"]["tiny"]
    assert own["claim"]["text"] == "Bursts do something."
    check = {"check": "Difference", "measure": "icl", "high": "p=1", "low": "p=0", "more_than": 0.0}
    assert own["claim"]["checks"]["1"].items() > check.items()
    assert own["claim"]["checks"]["1"]["text"] == SEARCHED.claim.checks[0].text()
    assert own["conditions"]["p=1"] == {"value": 1.0, "overrides": {"data.sequences.p_bursty": 1.0}}
    assert own["seeds"] == list(SEARCHED.seeds)
    assert own["search"]["space"] == {"training.optimizer.learning_rate": [1e-4, 1e-1]}
    assert (own["search"]["draws"], own["search"]["seed"]) == (2, 1000)
    assert (own["split"], own["most_seeds"]) == ("replicate", 0)
    assert own["config"]["training"]["num_steps"] == 40
    assert own["config"]["evaluation"]["num_sequences"] == 50
    assert read(registered) == made
    assert mark(SEARCHED, registered) == "registered"
    found = status([SEARCHED], registered)
    assert (found["hash"], found["registered"]) == (made["hash"], made["registered"])


def git(*words):
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@nowhere.example")
    return subprocess.run(["git", *who, *words], capture_output=True, text=True, check=True).stdout


# Git is optional: without it, a registration names no commit.
@pytest.mark.skipif(shutil.which("git") is None, reason="no git on PATH")
def test_the_commit_and_whether_the_registration_is_committed_are_recorded(tmp_path, monkeypatch):
    # A Git hook that runs the tests sets these to the user's own repository.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    (tmp_path / "sweep.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "A sweep")
    made = register([PLAIN], tmp_path / "runs")
    assert made["commit"] == git("rev-parse", "HEAD").strip()
    assert register([PLAIN], tmp_path / "runs") == made
    found = status([PLAIN], tmp_path / "runs")
    assert found["is_committed"] is False
    assert found["status"]["tiny"].endswith(f" as {made['hash'][:12]} (in no file at HEAD)")
    git("add", f"runs/{FILE}")
    git("commit", "--quiet", "-m", "Its registration")
    (tmp_path / "runs" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "runs" / "below")
    found = status([PLAIN], tmp_path / "runs")
    assert found["is_committed"] is True
    assert found["status"]["tiny"].endswith(f" as {made['hash'][:12]}")
    # Unlike the claims, the time is not part of the hash.
    for name, forged in (("registered", "2020-01-01T00:00:00Z"), ("commit", "0" * 40)):
        (tmp_path / "runs" / FILE).write_text(json.dumps({**made, name: forged}))
        found = status([PLAIN], tmp_path / "runs")
        assert found["is_committed"] is False
        assert found["status"]["tiny"].endswith("(in no file at HEAD)")
    git("rm", "--quiet", "--force", f"../{FILE}")
    other = register([SEARCHED], tmp_path / "other")
    assert other["commit"] == git("rev-parse", "HEAD").strip() + "-dirty"


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = register([PLAIN], tmp_path)
    assert made["commit"] is None
    assert status([PLAIN], tmp_path)["is_committed"] is None


def with_first_check(sweep, check):
    return changed(sweep, claim=Claim(sweep.claim.text, (check, *sweep.claim.checks[1:])))


CHANGES = {
    "claim.text: 'Bursts do something.' registered, 'Bursts.' now": changed(
        SEARCHED, claim=Claim("Bursts.", SEARCHED.claim.checks)
    ),
    "claim.rule: 'limits' registered, 'point' now": changed(
        SEARCHED, claim=Claim(SEARCHED.claim.text, SEARCHED.claim.checks, rule="point")
    ),
    "claim.checks.1.more_than: 0.0 registered, 0.1 now": with_first_check(
        SEARCHED, Difference("icl", high="p=1", low="p=0", more_than=0.1)
    ),
    "claim.checks.1.check: 'Difference' registered, 'Within' now": with_first_check(
        SEARCHED, Within("icl", "p=1", low=0.5)
    ),
    "config.training.num_steps: 40 registered, 80 now": SEARCHED.with_base_options(
        {"training.num_steps": 80}
    ),
    "config.evaluation.num_sequences: 50 registered, 60 now": SEARCHED.with_base_options(
        {"evaluation.num_sequences": 60}
    ),
    "seeds: [0, 1, 2, 3, 4] registered, [0, 1, 2, 3, 4, 5] now": SEARCHED.with_replicates(6),
    "seeds: [0, 1, 2, 3, 4] registered, [0, 1, 2, 3] now": SEARCHED.with_replicates(4),
    "split: 'replicate' registered, 'fixed' now": changed(SEARCHED, split="fixed"),
    "conditions.more.value was not registered": changed(
        SEARCHED, conditions=(*SEARCHED.conditions, Condition("more", {}))
    ),
    "conditions.p=1.value is gone": changed(SEARCHED, conditions=SEARCHED.conditions[:1]),
    "search.draws: 2 registered, 3 now": changed(
        SEARCHED, search=dataclasses.replace(SEARCHED.search, draws=3)
    ),
    "search was not registered": changed(SEARCHED, search=None),
    "most_seeds: 0 registered, 8 now": changed(SEARCHED, most_seeds=8),
}


@pytest.mark.parametrize("said", CHANGES)
def test_changes_are_named_and_never_overwrite_a_registration(registered, said):
    sweep = CHANGES[said]
    assert said in differences(read(registered)["sweeps"]["tiny"], sweep)
    before = (registered / FILE).read_bytes()
    with pytest.raises(SweepError, match="is never overwritten") as error:
        register([sweep], registered)
    assert f"tiny: {said}" in str(error.value)
    assert (registered / FILE).read_bytes() == before


def leaves(tree, *path):
    """Paths of all values in nested dictionaries."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *path, name)
        else:
            yield (*path, name)


def test_only_paths_and_bookkeeping_may_change_unnoticed():
    assert not differences(content_of(SEARCHED), SEARCHED)
    unnoticed = []
    for *path, name in leaves(content_of(SEARCHED)):
        registered = content_of(SEARCHED)
        place = registered
        for part in path:
            place = place[part]
        place[name] = place[name] + 1 if isinstance(place[name], int) else "something else"
        said = ".".join([*path, name])
        if not any(one.startswith(f"{said}: ") for one in differences(registered, SEARCHED)):
            unnoticed.append(said)
    assert set(unnoticed) == {
        "config.data.data_dir", "config.data.cache_dir", "config.data.feeder",
        "config.data.images.path", "config.data.features.path", "config.checkpoints.every",
        "config.checkpoints.keep",
        "config.checkpoints.at", "config.logging.loggers", "config.logging.wandb_project",
    }  # fmt: skip


def test_an_option_is_compared_in_every_condition():
    """4 shots are derived for 9 examples, but not for the other lengths."""
    lengths = over("data.sequences.seq_len", (5, 9, 17), "length")
    sweep = changed(conditions=lengths, claim=None)
    explicit = sweep.with_base_options({"evaluation.shots": 4})
    claim = Claim("Longer is better.", (Difference("icl", high="length=17", low="length=5"),))
    registered = content_of(changed(sweep, claim=claim))
    (said,) = differences(registered, changed(explicit, claim=claim))
    assert said == "config.evaluation.shots: None registered, 4 now"
    alone = changed(sweep, claim=claim, conditions=lengths[1:2])
    same = changed(explicit, claim=claim, conditions=lengths[1:2])
    assert not differences(content_of(alone), same)


def test_fields_that_decide_nothing_may_change(registered):
    base = with_options(
        SEARCHED.base,
        {"checkpoints.every": 10, "data.data_dir": "elsewhere", "data.feeder": "auto"},
    )
    other = changed(SEARCHED, title="Other", notes="Other", plot="curves", base=base)
    assert mark(other, registered) == "registered"
    assert register([other], registered) == read(registered)


def test_new_options_do_not_invalidate_a_registration(registered, tmp_path):
    """A later version runs and judges the registered sweep and reports no change."""
    made = read(registered)
    del made["sweeps"]["tiny"]["config"]["data"]["sequences"]["draws"]
    made["hash"] = hash_of(made["sweeps"])
    (tmp_path / FILE).write_text(json.dumps(made))
    said = "config.data.sequences.draws: 1 registered, 2 now"
    assert mark(SEARCHED, tmp_path) == CHANGED + said
    (kept,), options = as_registered([SEARCHED], tmp_path)
    assert options == {"data.sequences.draws": 1}
    assert kept == SEARCHED.with_base_options(options)
    assert mark(kept, tmp_path) == "registered"
    # Unregistered sweeps and complete registrations set no options.
    other = tiny_sweep.get_sweep("renamed")
    assert as_registered([other], tmp_path) == ([other], {})
    assert as_registered([SEARCHED], registered) == ([SEARCHED], {})
    assert as_registered([kept], tmp_path) == ([kept], {})


def test_seeds_may_be_added_only_by_the_registered_rule(tmp_path):
    ruled = changed(most_seeds=8)
    register([ruled], tmp_path)
    assert mark(ruled.with_replicates(8), tmp_path) == "registered, 3 seeds added by its rule"
    assert mark(ruled.with_replicates(9), tmp_path).startswith(f"{CHANGED}seeds: ")
    # Replacing seeds is not adding them.
    assert mark(changed(ruled, seeds=(1, 2, 3, 4, 5, 6)), tmp_path).startswith(f"{CHANGED}seeds: ")


def test_registered_claims_must_be_judged_together(tmp_path):
    other = tiny_sweep.get_sweep("renamed")
    register([PLAIN, other], tmp_path)
    assert set(marks([other, PLAIN], tmp_path).values()) == {"registered"}
    said = "judged together: tiny, renamed registered, tiny now"
    assert mark(PLAIN, tmp_path) == CHANGED + said
    third = changed(name="third")
    found = status([PLAIN, other, third], tmp_path)["status"]
    assert found["third"] == "not registered"
    assert found["tiny"].startswith(CHANGED)
    with pytest.raises(SweepError, match="judged together"):
        register([PLAIN], tmp_path)


def test_sweeps_with_runs_are_reported_as_unregistered_and_cannot_be_registered(tmp_path):
    finish_all(PLAIN, tmp_path, started=LATER)
    assert status([PLAIN], tmp_path) == {"status": {"tiny": "not registered"}}
    with pytest.raises(SweepError, match=r"runs that have begun .* tiny/p=0/seeds=0-4; tiny/p=1/"):
        register([PLAIN], tmp_path)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("started", "said"),
    [
        (LATER, "registered"),
        (EARLIER, f"{CHANGED}runs began before it: tiny/p=0/seeds=0-4; tiny/p=1/seeds=0-4"),
        # Runs of a version that recorded no start could not be registered.
        (None, f"{CHANGED}runs began before it: tiny/p=0/seeds=0-4; tiny/p=1/seeds=0-4"),
    ],
)
def test_runs_that_began_before_their_registration_are_marked(tmp_path, started, said):
    register([PLAIN], tmp_path)
    finish_all(PLAIN, tmp_path, started=started)
    assert mark(PLAIN, tmp_path) == said


def test_a_search_may_run_before_the_registration(tmp_path):
    for job in make_jobs([SEARCHED], tmp_path):
        if job.is_search:
            finish(job, Ends(icl=0.7), started=EARLIER)
    register([SEARCHED], tmp_path)
    assert mark(SEARCHED, tmp_path) == "registered"


def test_an_edited_or_damaged_file_is_rejected(registered, tmp_path):
    text = (registered / FILE).read_text()
    for bad, said in (
        (
            text.replace('"more_than": 0.0', '"more_than": 0.5'),
            "was edited after registration: hash = ",
        ),
        (text.replace('"draws": 2', '"draws": 9'), "was edited after registration"),
        ("{", "is not a registration"),
        ("{}", "was edited after registration"),
    ):
        assert bad != text
        (tmp_path / FILE).write_text(bad)
        with pytest.raises(WorkdirError, match=re.escape(FILE)) as error:
            status([SEARCHED], tmp_path)
        assert said in str(error.value)


def test_the_order_of_keys_does_not_matter(registered, tmp_path):
    """Neither does the process: see tests/cli/test_sweep_launchers.py."""

    def reordered(value):
        if not isinstance(value, dict):
            return value
        return {name: reordered(one) for name, one in reversed(value.items())}

    (tmp_path / FILE).write_text(json.dumps(reordered(read(registered)), indent=3))
    assert mark(SEARCHED, tmp_path) == "registered"
