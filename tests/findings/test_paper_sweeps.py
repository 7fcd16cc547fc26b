"""The paper's sweeps at every scale: conditions, replicates, and claims."""

import functools
from pathlib import Path

import numpy as np
import pytest

from emergent_icl import findings as files
from emergent_icl.config.configs import flatten, with_options
from emergent_icl.data.task import make_task
from emergent_icl.sweeps.evidence import Evidence, MeasuredRun
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.spec import load_sweep
from emergent_icl.sweeps.verdicts import judge

FOLDER = Path(files.__file__).parent
OPTIONS = {
    "burstiness": {"data.sequences.p_bursty": (0.0, 0.5, 0.9, 1.0)},
    "classes": {
        "data.split.num_rare": (100, 400, 1600, 12_800),
        "data.split.num_holdout": (23, 23, 23, 184),
        "data.augment": (False, False, False, True),
    },
    "multiplicity": {"data.sequences.label_multiplicity": (1, 2, 5, 10)},
    "variation": {
        "data.drawings": ("single", "single", "single", "all"),
        "data.noise_scale": (0.0, 0.1, 0.5, 0.0),
    },
    "zipf": {"data.sequences.zipf_exponent": (0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0)},
    "architecture": {"model.sequence_model": ("transformer", "lstm", "rnn")},
    "transience": {"training.optimizer.weight_decay": (0.0, 0.1)},
}
every_sweep = pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name in files.FINDINGS for preset in files.PRESETS]
)


@functools.cache
def load(name, preset):
    return load_sweep(f"{FOLDER / name}.py:{preset}")


def test_findings_and_files_match():
    there = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "scale", *files.EXAMPLES}
    assert there == set(files.FINDINGS) == set(OPTIONS)


@every_sweep
def test_conditions_differ_only_in_what_the_paper_varies(name, preset):
    sweep = load(name, preset)
    assert sweep.name == name
    configs = [flatten(sweep.config(one).to_dict()) for one in sweep.conditions]
    varied = {
        option: tuple(config[option] for config in configs)
        for option in configs[0]
        if any(config[option] != configs[0][option] for config in configs)
    }
    own = {
        ("classes", "one-split"): {"data.split.num_holdout": (20, 20, 20, 80)},
        ("classes", "paper"): {"data.split.num_holdout": (10, 10, 10, 80)},
        ("architecture", "paper"): {
            "model.sequence_model": ("transformer",) * 2 + ("lstm",) * 2 + ("rnn",) * 2,
            "model.num_layers": (2, 12) * 3,
        },
    }
    assert varied == {**OPTIONS[name], **own.get((name, preset), {})}


@pytest.mark.parametrize(("preset", "count", "seed"), [("laptop", 23, 105), ("paper", 10, 1337)])
def test_the_same_characters_are_held_out_for_any_number_of_classes(preset, count, seed):
    sweep = load("classes", preset)
    held_out = []
    for condition in sweep.conditions:
        task = make_task(with_options(sweep.config(condition), {"data.split.seed": seed}))
        ids, group = task.space.split.class_ids, task.shape.group_size
        held_out.append(set((ids[task.space.split.num_train :] // group).tolist()))
    assert len(held_out[0]) == count
    assert all(one == held_out[0] for one in held_out)
    if preset == "paper":  # Those of the reference implementation.
        order = np.random.default_rng(1337).choice(1623, 1623, replace=False)
        assert held_out[0] == set(order[-10:].tolist())


def test_transience_at_the_papers_scale_is_that_of_singh_et_al():
    config = load("transience", "paper").base
    task = make_task(config)
    assert task.space.split.num_train == 12_800
    assert config.training.num_steps * config.training.batch_size == 48_000_000
    batch = task.training.sample(np.random.default_rng(0), 200)
    for context, query in zip(batch.class_ids[:, :-1], batch.class_ids[:, -1], strict=True):
        counts = np.sort(np.unique(context, return_counts=True)[1])
        assert np.count_nonzero(context == query) >= 3
        assert counts[-2:].tolist() == [3, 3] or counts[-1] > 3  # Chance may repeat a class.


def test_replicates_have_their_own_splits_and_evaluation_sequences(tmp_path):
    for preset, seeds in (
        ("laptop", range(100, 108)),
        ("paper", range(5)),
        ("one-split", range(5)),
    ):
        sweep = load("burstiness", preset)
        assert sweep.seeds == tuple(seeds)
        for replica, seed in zip(sweep.replicas(sweep.seeds), seeds, strict=True):
            own = {"data.split.seed": seed, "evaluation.seed": seed} if preset == "laptop" else {}
            assert replica == {"name": f"seed={seed}", "training.seed": seed, **own}


@every_sweep
def test_every_run_has_the_presets_scale_and_frequent_evaluations(name, preset, tmp_path):
    sweep = load(name, preset)
    for job in make_jobs([sweep], tmp_path):
        config = job.config
        depth = 2 if job.condition.endswith("-2") else 12
        assert (config.data.image_size, config.model.num_layers, config.model.encoder) == (
            (105, depth, "resnet") if preset == "paper" else (28, 2, "mlp")
        )
        assert config.evaluation.num_sequences == (10_000 if preset == "paper" else 2_000)
        assert config.training.num_steps / config.evaluation.every >= 20
        assert make_task(config).evaluation["fewshot_holdout"].seq_len == 9


@every_sweep
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_identical_runs_support_no_claim(name, preset, level):
    sweep = load(name, preset)
    measures = {one for check in sweep.claim.checks for one in check.measures()}
    final = dict.fromkeys(measures, level)
    run = MeasuredRun({key: {10: level, 20: level} for key in final})
    evidence = Evidence(
        {one.name: (run,) * 5 for one in sweep.conditions},
        {one.name: one.value for one in sweep.conditions},
    )
    for rule in ("limits", "point"):
        assert judge(sweep.claim, evidence, 5, rule).verdict != "reproduced"


def test_zipf_distinguishes_common_from_rare_classes():
    for preset in files.PRESETS:
        sweep = load("zipf", preset)
        split = sweep.base.data.split
        assert split.num_rare + split.num_common == 12_800
        assert split.num_common >= 100
        assert {"iwl_common", "iwl_rare"} <= set(sweep.measures)


def test_models_are_judged_on_seeds_not_used_in_their_search(tmp_path):
    for preset, draws, models in (("laptop", 8, 3), ("paper", 15, 6)):
        sweep = load("architecture", preset)
        searched = {"training.optimizer.learning_rate", "training.optimizer.warmup_steps"}
        assert set(sweep.search.space) == searched
        jobs = make_jobs([sweep], tmp_path)
        searches = [one for one in jobs if one.name.endswith("search")]
        assert [one.num_runs for one in searches] == [draws] * models
        for one in searches:
            seeds = {r["training.seed"] for r in one.config.training.replica_overrides}
            assert seeds == {1000}
