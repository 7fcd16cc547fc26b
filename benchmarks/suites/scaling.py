"""Step time of the small preset against every size that a user may raise."""

from __future__ import annotations

import jax
import ml_collections

from benchmarks import timing
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.floor import plain_step
from benchmarks.growth import Growth, Point, growths, verdict
from benchmarks.processes import time_elsewhere
from benchmarks.workloads import OurTrainer, changed, load, with_stand_in
from emergent_icl.data.bank import SourceShape
from emergent_icl.presets import omniglot
from emergent_icl.training.cost import count_flops

BATCHES = (8, 32, 128, 512)
CLASSES = (100, 1_000, 10_000, 100_000)
CONTEXTS = (8, 16, 32, 64)
LAYERS = (1, 2, 4, 8, 16)
DEVICES = (1, 2, 4)
HOLDOUT = 10
# As many as few-shot sequences need: a hundred thousand classes then take 400 MB.
DRAWINGS = 5


@SUITES.register("scaling")
def scaling(settings: Settings) -> Findings:
    """Times steps on random images; says where time grows faster than the operations."""
    findings = Findings()
    small = settings.small or omniglot.get_config("small")
    # No more rounds than it takes: there are many points.
    rounds = max(2, settings.rounds - 2)
    found: dict[str, list[Growth]] = {}
    for name, variants in _axes(small).items():
        points = []
        settings.progress(f"step time against {name}")
        for size, config in variants.items():
            experiment, _ = load(config)
            step, arguments = plain_step(experiment)
            flops = float(count_flops(step, *arguments))
            compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
            traffic = float(compiled.cost_analysis()["bytes accessed"])
            if name == "devices":
                flag = f"--xla_force_host_platform_device_count={size}"
                samples = time_elsewhere(config, rounds, settings.seconds / 2, flag)
            else:
                with OurTrainer(experiment) as ours:
                    samples = timing.repeat(ours.compute_block(settings.seconds / 2), rounds)
            measured = timing.summarise(f"scaling_{name}_{size}", samples, "ms/step", 1e3)
            findings.measurements.append(measured)
            points.append(Point(size, measured.median / 1e3, flops, traffic))
        found[name] = growths(points)
        findings.tables.append(_table(name, points, found[name]))
        findings.extra.setdefault("growth", {})[name] = {
            "points": [point._asdict() for point in points],
            "exponents": [one._asdict() for one in found[name]],
        }
    findings.extra["growth"]["verdict"] = verdict(found)
    findings.tables.append(_verdict_table(findings.extra["growth"]["verdict"]))
    return findings


def _axes(
    small: ml_collections.ConfigDict,
) -> dict[str, dict[int, ml_collections.ConfigDict]]:
    """Configs by what is varied and by its size."""
    base = _with_classes(small, 1_600)
    on_cpu = jax.default_backend() == "cpu"
    axes = {
        "batch": {size: changed(base, training__batch_size=size) for size in BATCHES},
        "classes": {size: _with_classes(small, size) for size in CLASSES},
        "context pairs": {
            size: changed(base, data__sequences__seq_len=size + 1) for size in CONTEXTS
        },
        "layers": {size: changed(base, model__num_layers=size) for size in LAYERS},
    }
    # Virtual ones: the same work, cut into more pieces.
    return axes | ({"devices": dict.fromkeys(DEVICES, base)} if on_cpu else {})


def _with_classes(small: ml_collections.ConfigDict, count: int) -> ml_collections.ConfigDict:
    size = (small.data.image_size, small.data.image_size)
    config = with_stand_in(small, SourceShape(count + HOLDOUT, DRAWINGS, size, "image"))
    return changed(
        config, data__split__num_rare=count, data__split__num_common=0,
        data__split__num_holdout=HOLDOUT,
    )  # fmt: skip


def _table(name: str, points: list[Point], found: list[Growth]) -> Table:
    exponents = [None, *found]
    return Table(
        f"A step against {name}, small preset on random images",
        [f"{point.size:,}" for point in points],
        {
            "ms": [f"{point.seconds * 1e3:,.4g}" for point in points],
            "GFLOP": [f"{point.flops / 1e9:,.4g}" for point in points],
            "exponent of time": ["" if one is None else f"{one.time:.2f}" for one in exponents],
            "of operations": ["" if one is None else f"{one.flops:.2f}" for one in exponents],
            "of traffic": ["" if one is None else f"{one.bytes:.2f}" for one in exponents],
        },
    )


def _verdict_table(sentences: list[str]) -> Table:
    return Table("Growth", sentences, {})
