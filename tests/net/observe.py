"""What the safety net records: each function returns what the code does now, ready for JSON.

Floats depend on XLA flags. Tests use other flags than users, so they run this file as a separate
process. Moves and renames change the imports here, but no record.
"""

import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import signal
import sys
import tarfile
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
import sharing
import tiny

from emergent_icl import findings as sweep_files
from emergent_icl.cli import options
from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import identity
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.materialize import make_materialize
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.task import make_task
from emergent_icl.models.network import make_network
from emergent_icl.models.tokens import position_capacity
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.results import collect
from emergent_icl.sweeps.spec import load_sweep
from emergent_icl.training import devices
from emergent_icl.training.agenda import resolve_steps_per_call
from emergent_icl.training.optimizers import hyper_from_config, make_optimizer
from emergent_icl.training.update import init_state, make_update

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
WORKDIR = "workdir.tar.xz"
# These depend on the clock, not on the computation.
TIMES = ("steps_per_second", "sequences_per_second")
STEPS, STOP, STORED_STEP = 50, 30, 25
REPLICAS = (
    {"name": "iid", "training.seed": 7, "data.sequences.p_bursty": 0.0},
    {"name": "skewed", "data.sequences.zipf_exponent": 1.0, "data.noise_scale": 0.3},
)
# Random numbers, attention, and Adam compile slowly, so each is covered only once.
RESNET = {
    "data.augment": True,
    "data.noise_scale": 0.0,
    "model.sequence_model": "rnn",
    "training.optimizer.name": "sgd",
}
LSTM = {"model.sequence_model": "lstm", "training.optimizer.name": "sgd"}
VECTORS = {"model.attention_only": True, "model.positions": "learned"}
# Name -> preset of tests/tiny.py, and options that differ from it.
RUNS = {
    "images": ("images", {"data.noise_scale": 0.0}),
    "vectors": ("vectors", VECTORS),
    "integers": ("symbols", {"training.steps_per_call": None}),
    "lstm": ("symbols", LSTM),
    "resnet": ("resnet", RESNET),
    "replicas": ("vectors", {**VECTORS, "training.replica_overrides": REPLICAS}),
}
# Runs that are also recorded with today's arithmetic: one alone, and several together.
LEAN = ("integers", "replicas")
# Fault tests: they compile slowly, and other runs cover most of what they compute.
RARE = ("vectors", "resnet")
# What the first version did where today's default differs.
FIRST = {
    "data.sequences.draws": 1,
    "evaluation.shots": 4,
    "evaluation.ways": 2,
    "model.own_labels": False,
    "model.resnet.stem": "whole",
    "training.arithmetic": 1,
}
# And where today's preset differs.
CHANGED = {"omniglot_augmented.py:small": {"data.split.num_holdout": 80}}
PRESETS = (
    "base.py",
    "omniglot.py:paper",
    "omniglot.py:small",
    "omniglot_augmented.py:paper",
    "omniglot_augmented.py:small",
    "omniglot_identical.py:paper",
    "omniglot_identical.py:small",
    "glyphs.py:demo",
    "gaussian.py:reddy",
    "symbolic.py:small",
)
# These cover every encoder, source, and schedule.
STEPPED = (
    "omniglot.py:paper",
    "omniglot.py:small",
    "omniglot_augmented.py:small",
    "glyphs.py:demo",
    "gaussian.py:reddy",
    "symbolic.py:small",
)


def machine():
    """Properties of the machine that the last bits of a float depend on."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    return {
        "architecture": platform.machine(),
        "processor": hashlib.sha256((flags[1] if flags else "").encode()).hexdigest()[:16],
        "cores": os.cpu_count(),
        "jaxlib": jaxlib.__version__,
    }


def run_config(name):
    """The config of one of RUNS, as its command makes it today."""
    preset, changes = RUNS[name]
    whole = {"training.num_steps": STEPS, "evaluation.every": 25, "checkpoints.every": 25}
    return with_options(tiny.get_config(preset), {**whole, **changes})


def preset_config(name, defaults=FIRST):
    """The config of one of PRESETS, as the first version made it or with today's defaults."""
    file, _, preset = name.partition(":")
    module = importlib.import_module(f"experiments.configs.{file.removesuffix('.py')}")
    config = module.get_config(preset) if preset else module.get_config()
    return with_options(config, {**defaults, **CHANGED.get(name, {})})


def curves(name, arithmetic=1):
    """Lines of metrics.jsonl of an uninterrupted run and of a resumed one."""
    config = with_options(run_config(name), {**FIRST, "training.arithmetic": arithmetic})
    with tempfile.TemporaryDirectory() as folder:
        whole, parted = (Workdir(Path(folder) / way) for way in ("whole", "parted"))
        train(config, whole, Display())
        until, stopped = Until(STOP), 0
        try:
            train(config, parted, until, until.reached)
        except Interrupted as stop:
            stopped = stop.step
        assert stopped == STOP
        train(config, parted, Display())
        return {"uninterrupted": records(whole.path), "resumed": records(parted.path)}


class Until(Display):
    """Asks a run to stop after a step."""

    def __init__(self, last):
        self.last, self.step = last, 0

    def advanced(self, step):
        self.step = step

    def reached(self):
        return signal.SIGTERM if self.step >= self.last else None


def records(folder):
    """Lines of a work directory's metrics.jsonl, without times."""
    lines = read_metrics(Path(folder) / "metrics.jsonl")
    return [{key: value for key, value in one.items() if key not in TIMES} for one in lines]


def lowered_step(name):
    """A hash of a preset's training step, as JAX passes it to the compiler.

    Source locations are removed, and functions are numbered in order of appearance: a function may
    be moved or renamed, but what it computes must not change. Nothing is loaded, since only the
    shapes of the data matter.
    """
    return hashlib.sha256(step_text(name).encode()).hexdigest()


def step_text(name):
    """The text that `lowered_step` hashes."""
    config = preset_config(name)
    task = make_task(config)
    shape = task.shape
    optimizer = make_optimizer(config.training)
    materialize = make_materialize(config.data, shape)
    parts = (config.model, task.num_labels, position_capacity(config.model, task.longest_seq_len))
    layout = devices.Layout()
    network = make_network(*parts, layout.mean_over_devices)
    weight = config.training.interim_weight
    update = make_update(
        network, optimizer, materialize, weight, layout.mean_of_gradients, layout.rows
    )
    steps, size = resolve_steps_per_call(config), config.training.batch_size
    channels = (1,) if shape.kind == "image" else ()
    kind = jnp.int32 if shape.kind == "integer" else jnp.float32
    lead = (1, task.training.seq_len)
    state = jax.eval_shape(
        lambda: init_state(
            make_network(*parts),
            optimizer,
            0,
            jnp.zeros((*lead, *shape.example_shape, *channels), kind),
            jnp.zeros(lead, jnp.int32),
        )
    )

    def of_one(tree, *axes):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*axes, *jnp.shape(leaf)), jnp.result_type(leaf)),
            tree,
        )

    stored = {"image": jnp.uint8, "integer": jnp.int32}.get(shape.kind, jnp.float32)
    bank = DeviceBank(
        jax.ShapeDtypeStruct((shape.num_classes, shape.num_exemplars, *shape.example_shape), stored)
    )
    indices = jax.ShapeDtypeStruct((1, steps, 1, size, task.training.seq_len), jnp.int32)
    call = devices.make_train_call(update, steps)
    lowered = call.lower(
        of_one(state, 1, 1),
        of_one(hyper_from_config(config), 1, 1),
        bank,
        SequenceBatch(indices, indices, indices),
    )
    return _numbered(lowered.as_text())


def _numbered(text):
    """The module with its functions renamed to @f0, @f1, ..."""
    text = re.sub(r"\s*loc\([^)]*\)", "", text)
    numbers = {}
    return re.sub(r"@[\w.$-]+", lambda m: f"@f{numbers.setdefault(m[0], len(numbers))}", text)


def preset(name):
    """The identity and content of a preset's config."""
    config = preset_config(name)
    return {"identity": identity(config), "config": json.loads(json.dumps(config.to_dict()))}


def parameters(name):
    """{module/leaf: shape as text} of a preset's model, including BatchNorm's averages."""
    config = preset_config(name)
    task = make_task(config)
    shape = task.shape
    network = make_network(
        config.model, task.num_labels, position_capacity(config.model, task.longest_seq_len)
    )
    channels = (1,) if shape.kind == "image" else ()
    kind = jnp.int32 if shape.kind == "integer" else jnp.float32
    lead = (1, task.training.seq_len)
    examples = jax.ShapeDtypeStruct((*lead, *shape.example_shape, *channels), kind)
    labels = jax.ShapeDtypeStruct(lead, jnp.int32)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return {
        f"{module}/{leaf}": str(list(value.shape))
        for tree in jax.eval_shape(network.init, key, examples, labels)
        for module, leaves in sorted(tree.items())
        for leaf, value in sorted(leaves.items())
    }


def options_page():
    """docs/options.md as the code writes it."""
    return options.markdown()


def verdicts():
    """Verdicts on the committed records, and one hash per sweep of its curves and final values."""
    with tempfile.TemporaryDirectory() as folder:
        archive = ROOT / "docs" / "reproduction" / "one_split" / "records.tar.xz"
        with tarfile.open(archive) as records_of_runs:
            records_of_runs.extractall(folder, filter="data")
        place = Path(sweep_files.__file__).parent
        sweeps = [load_sweep(f"{place / name}.py:one-split") for name in sweep_files.FINDINGS]
        found = json.loads(json.dumps(collect(sweeps, Path(folder) / "laptop", {})))
    hashes = {
        name: hashlib.sha256(
            json.dumps([sweep["conditions"], sweep.get("search")], sort_keys=True).encode()
        ).hexdigest()
        for name, sweep in found["sweeps"].items()
    }
    return {"runs": found["runs"], "verdicts": found["verdicts"], "numbers": hashes}


# ------------------------------------------------------------------ a stored work directory


def store_workdir(target):
    """Trains the run 'images', and packs its folder with the checkpoints of steps 25 and 50."""
    with tempfile.TemporaryDirectory() as folder:
        train(run_config("images"), Workdir(Path(folder) / "run"), Display())
        with tarfile.open(target, "w:xz") as archive:
            archive.add(Path(folder) / "run", "run", filter=_anonymous)


def _anonymous(member):
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def unpack_workdir(folder):
    """The stored work directory, unpacked below a folder."""
    with tarfile.open(DATA / WORKDIR) as archive:
        archive.extractall(folder, filter="data")
    return Path(folder) / "run"


def resumed_workdir(folder, config=None):
    """Results of opening the stored run, and of resuming it from its first checkpoint.

    Args:
      folder: the stored work directory, unpacked. It is changed.
      config: to resume with; None for the one that the run was started with.

    Returns:
      records: the lines of metrics.jsonl after resuming.
      state: a hash of all leaves of the final state.
      logits: of the stored parameters, on two sequences of the ICL evaluation.
    """
    workdir = Workdir(folder)
    run = load_run(folder, step=STEPS)
    template = run.experiment.state_template()
    found = {"logits": logits(run)}
    shutil.rmtree(workdir.checkpoints / str(STEPS))
    workdir.summary.unlink()
    train(config or run_config("images"), workdir, Display())
    with CheckpointStore(workdir.checkpoints) as store:
        state, _ = store.restore(STEPS, template)
    whole = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(state))
    return found | {
        "records": records(folder),
        "state": hashlib.sha256(whole).hexdigest(),
    }


def logits(run):
    """Logits of the query for two fixed sequences, [2, L]."""
    experiment = run.experiment
    shape = experiment.task.shape
    rng = np.random.default_rng(0)
    lead = (2, experiment.task.training.seq_len)
    examples = rng.random((*lead, *shape.example_shape, 1), np.float32)
    labels = rng.integers(experiment.task.num_labels, size=lead).astype(np.int32)
    apply = jax.jit(lambda *args: experiment.network.apply(*args, None, examples, labels, False))
    return np.asarray(apply(run.params, run.batch_stats)[0]).astype(float).tolist()


def observations(names):
    """What a separate process must observe: floats under users' flags, and the options page.

    Of these of RUNS; the stored work directory only beside 'images', whose programs it shares.
    """
    # Later runs reuse what the first run traced and compiled.
    sharing.share(pytest.MonkeyPatch())
    found = {"machine": machine(), "curves": {name: curves(name) for name in names}}
    found["lean"] = {name: curves(name, arithmetic=2) for name in names if name in LEAN}
    with tempfile.TemporaryDirectory() as folder:
        if "images" in names:
            found["workdir"] = resumed_workdir(unpack_workdir(folder))
    return found | {"options": options_page()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(observations(sys.argv[2:])), encoding="utf-8")
