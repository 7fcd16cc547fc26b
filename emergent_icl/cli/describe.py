"""Show what a config means, and what it costs, before anything runs.

python -m experiments.describe --config=NAME[:preset] [--nomeasure] [--config.x.y=z ...]

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
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task
from emergent_icl.plots.style import duration_text
from emergent_icl.runs import initial
from emergent_icl.runs.check import check
from emergent_icl.runs.records import initial_text
from emergent_icl.training import cost, settings
from emergent_icl.training.step import agendas, resolve_steps_per_call

_CONFIG = config_flag()
flags.mark_flag_as_required("config")
_MEASURE = flags.DEFINE_boolean("measure", True, "Compile a training step and time it here.")


def main(argv: Sequence[str]) -> None:
    """Prints tables; writes nothing."""
    with console.command(argv):
        replicas = check(_CONFIG.value)
        settings.device_count()
        # Replicas have shapes in common, so the following describes the first.
        first, config, task = replicas[0]
        tables.print_facts(config.name, _data_facts(config, task))
        if first:
            facts = {
                "names": ", ".join(replica.name for replica in replicas),
                "below": f"of one of them, {first}; all {len(replicas)} take "
                "as many times its state, memory and operations",
            }
            tables.print_facts("Replicas", facts)
        counts = cost.parameters_by_module(config, task)
        counts["all"] = sum(counts.values())
        tables.print_facts("Parameters", {name: f"{count:,}" for name, count in counts.items()})
        found = cost.step_cost(config, task, timed=_MEASURE.value)
        tables.print_facts("Run", _run_facts(config))
        tables.print_facts("Cost", _cost_facts(config, found))
        for problem in initial.read(replicas)[1]:
            console.say(f"warning: {problem}")
        for name, config, task in replicas:
            who = f"{name}: " if name else ""
            for warning in cost.warnings(config, task):
                console.say(f"warning: {who}{warning}")


def _data_facts(config: ml_collections.ConfigDict, task: Task) -> dict[str, str]:
    space, sequences = task.space, config.data.sequences
    shape = " x ".join(str(size) for size in task.shape.example_shape)
    grouped = space.split.num_holdout_groups < space.split.num_holdout
    groups = f" (in {space.split.num_holdout_groups:,} groups)" if grouped else ""
    surplus = task.num_labels - task.used_labels
    room = f", and room for {surplus:,} more" * bool(surplus)
    count = len(space.holdout_exemplars)
    held_out = f" ({count} of them held out)" * bool(count)
    facts = {
        "data": f"{config.data.source}: {task.shape.num_classes:,} classes x "
        f"{task.shape.num_exemplars} exemplars{held_out}, {task.shape.kind} {shape}".rstrip(),
        "classes": f"{space.split.num_rare:,} rare, {space.split.num_common:,} common, "
        f"{space.split.num_holdout:,} held out{groups}",
        "labels": f"{task.used_labels:,}{room} (labeling '{sequences.labeling}', "
        f"{sequences.label_multiplicity} a class)",
        "training": _shown(sequences.type, task.training),
    }
    for mode, kind in task.evaluation.items():
        chance = f"closed chance 1 / {len(kind.valid_labels):,}"
        facts[f"evaluation: {mode}"] = f"{_shown(mode, kind)}, {chance}{tables.constant_text(kind)}"
    return facts


def _shown(name: str, kind: SequenceType) -> str:
    return f"{name}, {kind.seq_len - 1} pairs and a query"


def _run_facts(config: ml_collections.ConfigDict) -> dict[str, str]:
    facts = {"initial weights": initial_text(config) or "random"}
    when = agendas(config, resolve_steps_per_call(config))
    for name, agenda in zip(("evaluations", "checkpoints"), when, strict=True):
        listed = ", ".join(f"{step:,}" for step in agenda.listed)
        facts[name] = f"every {agenda.every:,} steps" + f", and at {listed}" * bool(listed)
    return facts


def _cost_facts(config: ml_collections.ConfigDict, found: cost.StepCost) -> dict[str, str]:
    steps, batch = config.training.num_steps, config.training.batch_size
    state = f"{_size(found.bank_bytes)} examples, {_size(found.state_bytes)} state"
    temporary = found.temporary_bytes
    facts = {
        "training": f"{steps:,} steps x {batch} sequences = {steps * batch:,} sequences",
        "operations": f"{found.flops / 1e9:,.3g} GFLOP a step, "
        f"{found.flops * steps / 1e15:,.3g} PFLOP in all",
        "memory": state if temporary is None else f"{state}, {_size(temporary)} a step",
    }
    if found.step_seconds is not None:
        device = f"{jax.devices()[0].device_kind}, one device of {jax.device_count()}"
        facts["time"] = (
            f"{found.step_seconds * 1e3:,.3g} ms a step on this machine ({device}), "
            f"{duration_text(found.step_seconds * steps)} in all; evaluations and "
            f"{found.compile_seconds:.0f} s of compilation come on top"
        )
    return facts


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} GiB"
