"""Says what a config means before it costs anything.

python -m experiments.describe --config=FILE[:preset] [--nomeasure] [--config.x.y=z ...]

Loads no data and trains nothing. With --measure (the default) it compiles one training step and
times a few on random numbers, which is where the estimated time comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import ml_collections
from absl import flags

from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.data.task import Task
from emergent_icl.plots.style import duration_text
from emergent_icl.runs.check import check
from emergent_icl.training import cost as description

_CONFIG = config_flag()
flags.mark_flag_as_required("config")

_MEASURE = flags.DEFINE_boolean("measure", True, "Compile a training step and time it here.")


def main(argv: Sequence[str]) -> None:
    """Prints tables; writes nothing."""
    console.refuse_leftovers(argv)
    with console.clear_errors():
        config = _CONFIG.value
        replicas = check(config)
        # Shapes are common to all: what follows is said of the first.
        config, task = replicas[0].config, replicas[0].task
        tables.print_facts(config.name, _data_facts(config, task))
        if replicas[0].name:
            facts = {
                "names": ", ".join(replica.name for replica in replicas),
                "below": f"of one of them, {replicas[0].name}; all {len(replicas)} take "
                "as many times its state, memory and operations",
            }
            tables.print_facts("Replicas", facts)
        counts = description.parameters_by_module(config, task)
        rows = {name: f"{count:,}" for name, count in counts.items()}
        tables.print_facts("Parameters", rows | {"all": f"{sum(counts.values()):,}"})
        cost = description.step_cost(config, task, timed=_MEASURE.value)
        tables.print_facts("Cost", _cost_facts(config, cost))
        for replica in replicas:
            who = f"{replica.name}: " if replica.name else ""
            for warning in description.warnings(replica.config, replica.task):
                console.say(f"warning: {who}{warning}")


def _data_facts(config: ml_collections.ConfigDict, task: Task) -> dict[str, str]:
    space, sequences = task.space, config.data.sequences
    shape = " x ".join(str(size) for size in task.shape.example_shape)
    facts = {
        "data": f"{config.data.source}: {task.shape.num_classes:,} classes x "
        f"{task.shape.num_exemplars} exemplars, {task.shape.kind} {shape}".rstrip(),
        "classes": f"{space.split.num_rare:,} rare, {space.split.num_common:,} common, "
        f"{space.split.num_holdout:,} held out",
        "labels": f"{task.num_labels:,} (labeling '{sequences.labeling}', "
        f"{sequences.label_multiplicity} a class)",
        "training": _sequence_facts(sequences.type, task.training.seq_len),
    }
    for mode, kind in task.evaluation.items():
        facts[f"evaluation: {mode}"] = (
            f"{_sequence_facts(mode, kind.seq_len)}, closed chance 1 / {len(kind.valid_labels):,}"
        )
    return facts


def _sequence_facts(name: str, seq_len: int) -> str:
    return f"{name}, {seq_len - 1} pairs and a query"


def _cost_facts(config: ml_collections.ConfigDict, cost: description.StepCost) -> dict[str, str]:
    training = config.training
    sequences = training.num_steps * training.batch_size
    facts = {
        "training": f"{training.num_steps:,} steps x {training.batch_size} sequences = "
        f"{sequences:,} sequences",
        "operations": f"{cost.flops / 1e9:,.3g} GFLOP a step, "
        f"{cost.flops * training.num_steps / 1e15:,.3g} PFLOP in all",
        "memory": f"{_size(cost.bank_bytes)} examples, {_size(cost.state_bytes)} state"
        + ("" if cost.temporary_bytes is None else f", {_size(cost.temporary_bytes)} a step"),
    }
    if cost.step_seconds is not None:
        device = f"{jax.devices()[0].device_kind}, one device of {jax.device_count()}"
        facts["time"] = (
            f"{cost.step_seconds * 1e3:,.3g} ms a step on this machine ({device}), "
            f"{duration_text(cost.step_seconds * training.num_steps)} in all; evaluations and "
            f"{cost.compile_seconds:.0f} s of compilation come on top"
        )
    return facts


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} GiB"
