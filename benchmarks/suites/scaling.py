"""Step time of the small preset against every size that a user may raise."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import jax
import ml_collections

from benchmarks.explain import Growth, Point, growths, verdict
from benchmarks.processes import elsewhere
from benchmarks.records import Measurements, Settings, Table, number
from benchmarks.suites.compare import Subject
from benchmarks.workloads import OurTrainer, changed, load, with_stand_in
from emergent_icl.data.bank import SourceShape
from emergent_icl.presets import omniglot
from emergent_icl.training.cost import step_cost

BATCHES = (8, 32, 128, 512)
CLASSES = (100, 1_000, 10_000, 100_000)
CONTEXTS = (8, 16, 32, 64)
LAYERS = (1, 2, 4, 8, 16)
DEVICES = (1, 2, 4)
HOLDOUT = 10
# As many as few-shot sequences need: a hundred thousand classes then take 400 MB.
DRAWINGS = 5


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Steps on random images; says where time grows faster than the operations."""
    grown: dict[str, list[Growth]] = {}
    axes = {}
    for axis, variants in _axes(settings.small or omniglot.get_config("small")).items():
        settings.progress(f"step time against {axis}")
        points = []
        for size, config in variants.items():
            name = f"scaling_{axis}_{size}"
            experiment, _ = load(config)
            cost = step_cost(experiment.config, experiment.task, compiled=True)
            with contextlib.ExitStack() as stack:
                if axis == "devices":
                    flag = f"--xla_force_host_platform_device_count={size}"
                    rival = stack.enter_context(elsewhere(config, flag))
                else:
                    trainer = contextlib.closing(OurTrainer(experiment))
                    rival = stack.enter_context(trainer).rival("compute")
                yield Subject(f"{axis} {size}", name, {"ours": rival})
            points.append(
                Point(size, found.by_name[name].median / 1e3, cost.flops, cost.moved_bytes)
            )
        grown[axis] = growths(points)
        found.tables.append(_table(axis, points, grown[axis]))
        axes[axis] = {
            "points": [point._asdict() for point in points],
            "exponents": [one._asdict() for one in grown[axis]],
        }
    sentences = verdict(grown)
    found.extra["growth"] = {**axes, "verdict": sentences}
    found.tables.append(Table("Growth", sentences, {}))


def _axes(
    small: ml_collections.ConfigDict,
) -> dict[str, dict[int, ml_collections.ConfigDict]]:
    """Configs by what is varied and by its size."""
    base = _with_classes(small, 1_600)
    axes = {
        "batch": {size: changed(base, training__batch_size=size) for size in BATCHES},
        "classes": {size: _with_classes(small, size) for size in CLASSES},
        "context pairs": {
            size: changed(base, data__sequences__seq_len=size + 1) for size in CONTEXTS
        },
        "layers": {size: changed(base, model__num_layers=size) for size in LAYERS},
    }
    # Virtual ones: the same work, cut into more pieces.
    on_cpu = jax.default_backend() == "cpu"
    return axes | ({"devices": dict.fromkeys(DEVICES, base)} if on_cpu else {})


def _with_classes(small: ml_collections.ConfigDict, count: int) -> ml_collections.ConfigDict:
    size = (small.data.image_size, small.data.image_size)
    config = with_stand_in(small, SourceShape(count + HOLDOUT, DRAWINGS, size, "image"))
    return changed(
        config, data__split__num_rare=count, data__split__num_common=0,
        data__split__num_holdout=HOLDOUT,
    )  # fmt: skip


def _table(axis: str, points: list[Point], found: list[Growth]) -> Table:
    exponents = {"exponent of time": "time", "of operations": "flops", "of traffic": "bytes"}
    return Table(
        f"A step against {axis}, small preset on random images",
        [f"{point.size:,}" for point in points],
        {
            "ms": [number(point.seconds * 1e3) for point in points],
            "GFLOP": [number(point.flops / 1e9) for point in points],
            **{
                heading: ["", *(f"{getattr(one, field):.2f}" for one in found)]
                for heading, field in exponents.items()
            },
        },
    )
