"""Show what a config means and what it costs, before anything runs.

python -m experiments.describe --config=NAME[:preset] [--nomeasure] [--config.x.y=z ...]

Loads no data and trains nothing. With --measure (the default), compiles a training step and times
it on random data to estimate the duration of training.
"""

from collections.abc import Sequence

import jax
import ml_collections
from absl import flags
from rich.filesize import decimal

from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.data.task import Task
from emergent_icl.evaluation.measures import chance
from emergent_icl.runs import initial, leaks
from emergent_icl.runs.check import check
from emergent_icl.runs.progress import duration_text
from emergent_icl.runs.records import initial_text
from emergent_icl.training import cost, settings
from emergent_icl.training.agenda import agendas, resolve_steps_per_call
from emergent_icl.training.warnings import warnings

_CONFIG = config_flag()
flags.mark_flag_as_required("config")
_MEASURE = flags.DEFINE_boolean("measure", True, "Compile and time a training step.")


def main(argv: Sequence[str]) -> None:
    """Prints tables; writes nothing."""
    with console.command(argv):
        replicas = check(_CONFIG.value)
        settings.device_count()
        # The first stands for all: their shapes are the same.
        first, config, task = replicas[0]
        tables.print_facts(config.name, _data_facts(config, task))
        if first:
            facts = {
                "names": ", ".join(replica.name for replica in replicas),
                "shown below": f"{first}; all together have {len(replicas)} times its state, "
                "memory, and operations",
            }
            tables.print_facts("Replicas", facts)
        counts = cost.parameters_by_module(config, task)
        counts["all"] = sum(counts.values())
        tables.print_facts("Parameters", {name: f"{count:,}" for name, count in counts.items()})
        found = cost.step_cost(config, task, timed=_MEASURE.value)
        tables.print_facts("Run", _run_facts(config))
        tables.print_facts("Cost", _cost_facts(config, found))
        leaked = (*leaks.warnings(replicas), *leaks.doubts(replicas))
        for problem in (*initial.read(replicas)[1], *leaked):
            console.say(f"warning: {problem}")
        for name, config, task in replicas:
            who = f"{name}: " if name else ""
            for warning in warnings(config, task):
                console.say(f"warning: {who}{warning}")


def _data_facts(config: ml_collections.ConfigDict, task: Task) -> dict[str, str]:
    split, sequences, shape = task.space.split, config.data.sequences, task.shape
    size = " x ".join(map(str, shape.example_shape))
    groups, surplus = split.num_holdout_groups, task.num_labels - task.used_labels
    grouped = f" (in {groups:,} groups)" * (groups < split.num_holdout)
    room = f", and room for {surplus:,} more" * bool(surplus)
    count = len(task.space.holdout_exemplars)
    held_out = f" ({count} of them held out)" * bool(count)
    facts = {
        "data": f"{config.data.source}: {shape.num_classes:,} classes x "
        f"{shape.num_exemplars} exemplar{'s' * (shape.num_exemplars != 1)}{held_out}, "
        f"{shape.kind} {size}".rstrip(),
        "classes": f"{split.num_rare:,} rare, {split.num_common:,} common, "
        f"{split.num_holdout:,} held out{grouped}",
        "labels": f"{task.used_labels:,}{room} (labeling '{sequences.labeling}', "
        f"{sequences.label_multiplicity} per class)",
        "training": f"{sequences.type}, {task.training.seq_len - 1} pairs and a query",
    }
    for mode, kind in task.evaluation.items():
        parts = (
            f"{kind.seq_len - 1} pairs and a query",
            _chance_text(mode, task), tables.constant_text(mode, task),
        )  # fmt: skip
        facts[f"evaluation: {mode}"] = ", ".join(filter(None, parts))
    return facts


def _chance_text(mode: str, task: Task) -> str:
    guessed = chance(f"eval/{mode}/accuracy_closed", task)
    return f"closed chance 1 / {round(1 / guessed):,}" if guessed else ""


def _run_facts(config: ml_collections.ConfigDict) -> dict[str, str]:
    facts = {"initial weights": initial_text(config) or "random"}
    when = agendas(config, resolve_steps_per_call(config))
    for name, agenda in zip(("evaluations", "checkpoints"), when, strict=True):
        listed = ", ".join(f"{step:,}" for step in agenda.listed)
        facts[name] = f"every {agenda.every:,} steps" + f", and at {listed}" * bool(listed)
    return facts


def _cost_facts(config: ml_collections.ConfigDict, found: cost.StepCost) -> dict[str, str]:
    steps, batch = config.training.num_steps, config.training.batch_size
    memory = f"{decimal(found.bank_bytes)} examples, {decimal(found.state_bytes)} state"
    if found.temporary_bytes is not None:
        memory += f", {decimal(found.temporary_bytes)} per step"
    facts = {
        "training": f"{steps:,} steps x {batch} sequences = {steps * batch:,} sequences",
        "operations": f"{found.flops / 1e9:,.3g} GFLOP per step, "
        f"{found.flops * steps / 1e15:,.3g} PFLOP in total",
        "memory": memory,
    }
    if found.step_seconds is not None:
        device = f"{jax.devices()[0].device_kind}, one device of {jax.device_count()}"
        facts["time"] = (
            f"{found.step_seconds * 1e3:,.3g} ms per step on this machine ({device}), "
            f"{duration_text(found.step_seconds * steps)} in total, plus evaluations and "
            f"{found.compile_seconds:.0f} s of compilation"
        )
    return facts
