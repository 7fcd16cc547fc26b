"""Eight replicas in one program over one alone, for the small preset."""

from __future__ import annotations

import contextlib

from benchmarks import timing
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.workloads import OurTrainer, changed, load
from emergent_icl.presets import omniglot

MANY = 8


def _block(ours: OurTrainer, kind: str, seconds: float) -> timing.Block:
    return ours.compute_block(seconds) if kind == "compute" else ours.run_block(seconds)


@SUITES.register("replicas")
def replicas(settings: Settings) -> Findings:
    """Times a step of 1 and of 8 replicas of the small preset."""
    findings = Findings()
    small = settings.small or omniglot.get_config("small")
    columns = {}
    with contextlib.ExitStack() as stack:
        trainers = {}
        for count in (1, MANY):
            experiment, source = load(changed(small, training__replicas=count))
            findings.notes.append(f"small: {source}")
            trainers[count] = stack.enter_context(OurTrainer(experiment))
        settings.progress(f"steps of 1 and of {MANY} replicas")
        for kind in ("compute", "end_to_end"):
            blocks = {
                count: _block(ours, kind, settings.seconds) for count, ours in trainers.items()
            }
            samples = timing.alternate(blocks, settings.rounds)
            cells = []
            for count, seconds in samples.items():
                name = f"replicas_small_{count}_{kind}"
                measured = timing.summarise(name, seconds, "ms/step", 1e3)
                findings.measurements.append(measured)
                cells.append(f"{measured.median:.4g} ({measured.min:.4g} to {measured.max:.4g})")
            name = f"replicas_small_{MANY}_over_1"
            over, spread = timing.ratio(f"{name}_{kind}", samples[MANY], samples[1])
            findings.measurements.append(spread)
            cells.append(f"{over:.3g} x ({spread.min:.3g} to {spread.max:.3g})")
            columns[kind.replace("_", " ")] = cells
            if kind == "end_to_end":
                findings.figures[name] = over
    rows = ["1 replica, ms", f"{MANY} replicas, ms", f"a step of {MANY} over one of 1"]
    findings.tables.append(Table("Replicas in one program, small preset", rows, columns))
    return findings
