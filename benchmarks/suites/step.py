"""A training step: ours and the baseline's in turn, its floor, and where its time goes."""

from __future__ import annotations

import contextlib
import functools

import jax

from benchmarks import timing
from benchmarks.accelerator import measure_accelerator
from benchmarks.baseline.sequences import training_batch, training_feed, why_not
from benchmarks.baseline.training import BaselineTrainer
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.floor import Floor, Rates, estimate_floor, measure_rates
from benchmarks.profile import PARTS, measure_parts
from benchmarks.suites.data import has_tensorflow, subjects
from benchmarks.workloads import OurTrainer, load
from emergent_icl.training.build import Experiment

HEADINGS = ["ours, ms", "baseline, ms", "speedup"]


@SUITES.register("step")
def step(settings: Settings) -> Findings:
    """Times steps of the config and of the small preset, computed alone and fed."""
    findings = Findings()
    columns: dict[str, list[str]] = {}
    for subject, config in subjects(settings):
        experiment, source = load(config)
        findings.notes.append(f"{subject}: {source}")
        settings.progress(f"{subject}: compiling both ways")
        waits = _compare(findings, columns, subject, experiment, settings)
        if subject == "small":
            shares = [share for _, share in waits]
            findings.measurements.append(timing.summarise("feed_share_small", shares, "1"))
            findings.figures["feed_share_small"] = findings.measurements[-1].median
        if subject == settings.subject:
            _explain(findings, experiment, [seconds for seconds, _ in waits], settings)
    title = f"A training step, batch {settings.config.training.batch_size}"
    findings.tables.insert(0, Table(title, HEADINGS, columns))
    if jax.default_backend() != "cpu":
        findings.add(measure_accelerator(settings))
    return findings


def _compare(
    findings: Findings,
    columns: dict[str, list[str]],
    subject: str,
    experiment: Experiment,
    settings: Settings,
) -> list[tuple[float, float]]:
    """Ours and the baseline's, computed alone and end to end; returns what ours waited."""
    reason = why_not(experiment.config)
    if reason is not None:
        findings.notes.append(f"{subject}: no baseline, {reason}")
    with OurTrainer(experiment) as ours:
        theirs = BaselineTrainer(experiment) if reason is None else None
        for kind in ("compute", "end_to_end"):
            settings.progress(f"{subject}: steps, {kind.replace('_', ' ')}")
            with contextlib.ExitStack() as stack:
                make = ours.compute_block if kind == "compute" else ours.run_block
                blocks = {"ours": make(settings.seconds)}
                if theirs is not None and (kind == "compute" or has_tensorflow()):
                    blocks["baseline"] = _baseline_block(
                        theirs, experiment, kind, settings.seconds, stack
                    )
                ours.waits.clear()
                samples = timing.alternate(blocks, settings.rounds)
            name = f"step_{subject}_{kind}"
            columns[f"{subject}, {kind.replace('_', ' ')}"] = _record(findings, name, samples)
        return list(ours.waits)


def _baseline_block(
    theirs: BaselineTrainer,
    experiment: Experiment,
    kind: str,
    seconds: float,
    stack: contextlib.ExitStack,
) -> timing.Block:
    if kind == "compute":
        placed = theirs.place(training_batch(experiment))
        return timing.fit_block(functools.partial(theirs.compute, placed), seconds)
    feed = training_feed(experiment)
    # The iterator's threads call back into Python: they must end with this block.
    stack.callback(feed.close)
    return timing.fit_block(functools.partial(theirs.run, feed), seconds, at_least=2)


def _record(findings: Findings, name: str, samples: dict[str, list[float]]) -> list[str]:
    """Adds measurements and the speedup; returns the cells of a column."""
    cells = ["-", "-", "-"]
    for i, (who, seconds) in enumerate(samples.items()):
        measured = timing.summarise(f"{name}_{who}", seconds, "ms/step", 1e3)
        findings.measurements.append(measured)
        cells[i] = f"{measured.median:,.4g} ({measured.min:,.4g} to {measured.max:,.4g})"
    if "baseline" in samples:
        speedup, spread = timing.ratio(f"{name}_speedup", samples["baseline"], samples["ours"])
        findings.speedups[name] = speedup
        findings.measurements.append(spread)
        cells[2] = f"{speedup:.3g} x ({spread.min:.3g} to {spread.max:.3g})"
    return cells


def _explain(
    findings: Findings, experiment: Experiment, feed: list[float], settings: Settings
) -> None:
    """Floor and parts of the step that was timed."""
    subject, rounds = settings.subject, settings.rounds
    settings.progress(f"{subject}: floor")
    rates = measure_rates(rounds)
    floor = estimate_floor(experiment, rates)
    name = f"step_{subject}_compute_ours"
    measured = next(one for one in findings.measurements if one.name == name)
    over = measured.median / 1e3 / floor.seconds
    if subject == "paper":
        findings.figures["paper_step_over_floor"] = over
    findings.measurements += [*rates.matmul.values(), rates.copy, rates.read]
    findings.extra["floor"] = floor._asdict() | {"seconds": floor.seconds, "step_over_floor": over}
    findings.tables.append(_floor_table(floor, rates, measured, over))

    settings.progress(f"{subject}: parts of a step")
    parts = measure_parts(experiment, feed, rounds, settings.seconds / 2)
    findings.measurements += parts.values()
    findings.extra["profile"] = {part: one.median for part, one in parts.items()}
    total = sum(one.median for one in parts.values())
    cells = [
        *(f"{one.median:,.3g} ({one.min:,.3g} to {one.max:,.3g})" for one in parts.values()),
        f"{total:,.4g}",
        f"{measured.median:,.4g}",
    ]
    shares = [*(f"{one.median / total:.1%}" for one in parts.values()), "100.0%", ""]
    findings.tables.append(
        Table(
            f"Where a step of '{settings.config.name}' spends its time",
            [*PARTS.values(), "sum of the parts", "the whole step"],
            {"ms": cells, "share": shares},
        )
    )


def _floor_table(floor: Floor, rates: Rates, measured: timing.Measurement, over: float) -> Table:
    rows = {
        "operations of a step": f"{floor.flops / 1e9:,.4g} GFLOP",
        "... as XLA counts them": f"{floor.xla_flops / 1e9:,.4g} GFLOP",
        "bytes that it moves": f"{floor.bytes / 1e9:,.4g} GB",
        "matrix products, float32": _rate(rates.matmul["float32"]),
        "matrix products, bfloat16": _rate(rates.matmul["bfloat16"]),
        "memory, read and written": _rate(rates.copy),
        "memory, read alone": _rate(rates.read),
        "least time by arithmetic": f"{floor.compute_s * 1e3:,.4g} ms",
        "least time by memory": f"{floor.memory_s * 1e3:,.4g} ms",
        "the step": f"{measured.median:,.4g} ms",
        "the step over its floor": f"{over:.3g} x",
    }
    return Table("The floor of a step", list(rows), {"": list(rows.values())})


def _rate(rate: timing.Measurement) -> str:
    return f"{rate.median:,.4g} {rate.unit} ({rate.min:,.4g} to {rate.max:,.4g})"
