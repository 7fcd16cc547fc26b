"""What the runs of a program measured, read from its work directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from emergent_icl.config.configs import named_overrides
from emergent_icl.runs.records import Record, read_metrics
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.checks import Measured
from emergent_icl.sweeps.measures import MEASURES, evaluation_mode


class Curve(NamedTuple):
    """A measure over training: two tuples of one length."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


class Outcome(NamedTuple):
    """One run.

    Attributes:
      replica: its name in the program.
      seed: `training.seed`.
      diverged_at_step: None for a run that did not.
      curves: measure -> its curve; empty where nothing was measured.
    """

    replica: str
    seed: int
    diverged_at_step: int | None
    curves: Mapping[str, Curve]

    @property
    def final(self) -> dict[str, float]:
        """Measure -> its last value."""
        return {name: curve.values[-1] for name, curve in self.curves.items() if curve.values}

    def measured(self) -> Measured:
        """What claims are judged by."""
        curves = {
            name: dict(zip(one.steps, one.values, strict=True)) for name, one in self.curves.items()
        }
        return Measured(self.final, curves)


def read_outcomes(workdir: Workdir) -> list[Outcome]:
    """The runs of a program that is complete, in the order of its replicas; [] if it is not."""
    summary = workdir.read_summary()
    if summary is None:
        return []
    config, records = workdir.read_config(), read_metrics(workdir.metrics)
    outcomes = []
    for name, overrides in named_overrides(config):
        own = [record for record in records if record.get("replica", "") == name]
        about = summary["replicas"][name] if name else summary
        seed = overrides.get("training.seed", config.training.seed)
        outcomes.append(Outcome(name, seed, about.get("diverged_at_step"), _curves(own)))
    return outcomes


def _curves(records: list[Record]) -> dict[str, Curve]:
    """Of every named measure, and of every other metric of evaluation."""
    named = {key: name for name, key in MEASURES.items()}
    keys = dict.fromkeys(key for record in records for key in record)
    measures = {named.get(key, key): key for key in keys if key in named or evaluation_mode(key)}
    curves = {}
    for name, key in measures.items():
        # The loss has many more lines: those of evaluations are enough for a curve.
        lines = [one for one in records if key in one and any(k.startswith("eval/") for k in one)]
        steps, values = (tuple(one[field] for one in lines) for field in ("step", key))
        curves[name] = Curve(steps, values)
    return curves
