"""The paper's sweeps at every scale: conditions, replicates, and claims."""

import functools
from pathlib import Path

import pytest

from emergent_icl import findings as files
from emergent_icl.config.configs import flatten, with_options
from emergent_icl.data.task import make_task
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.measures import Evidence, MeasuredRun
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
    one_split = {"data.split.num_holdout": (20, 20, 20, 80)} if preset == "one-split" else {}
    assert varied == {**OPTIONS[name], **(one_split if name == "classes" else {})}


def test_the_same_characters_are_held_out_for_any_number_of_classes():
    sweep = load("classes", "laptop")
    held_out = []
    for condition in sweep.conditions:
        task = make_task(with_options(sweep.config(condition), {"data.split.seed": 105}))
        ids, group = task.space.split.class_ids, task.shape.group_size
        held_out.append(set((ids[task.space.split.num_train :] // group).tolist()))
    assert len(held_out[0]) == 23
    assert all(one == held_out[0] for one in held_out)


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
        assert (config.data.image_size, config.model.num_layers, config.model.encoder) == (
            (105, 12, "resnet") if preset == "paper" else (28, 2, "mlp")
        )
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
    for preset, draws in (("laptop", 8), ("paper", 15)):
        sweep = load("architecture", preset)
        searched = {"training.optimizer.learning_rate", "training.optimizer.warmup_steps"}
        assert set(sweep.search.space) == searched
        jobs = make_jobs([sweep], tmp_path)
        searches = [one for one in jobs if one.name.endswith("search")]
        assert [one.num_runs for one in searches] == [draws] * 3
        for one in searches:
            seeds = {r["training.seed"] for r in one.config.training.replica_overrides}
            assert seeds == {1000}
