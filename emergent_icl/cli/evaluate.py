"""Evaluates a trained run on every mode, with 95% intervals.

python -m experiments.evaluate --workdir=DIR [--step=N] [--modes=a,b] [--num_sequences=10000]
    [--shots=4] [--ways=2] [--replica=NAME]

Where several replicas were trained together, each is evaluated, or the one of that name.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from absl import flags

from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import data_flags, replica_flag, step_flag, workdir_flag
from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.data.task import fewshot_options
from emergent_icl.runs.open import Run, load_run, replica_names
from emergent_icl.runs.workdir import DivergedError, Workdir, read_object

_WORKDIR, _STEP, _REPLICA = workdir_flag(), step_flag(), replica_flag()
_data_overrides = data_flags()
_MODES = flags.DEFINE_list(
    "modes", None, f"Among {', '.join(EVALUATION_MODES)}; default: those of the run."
)
_SHOTS = flags.DEFINE_integer(
    "shots", None, "Examples of each class in few-shot modes; default: those of the run."
)
_WAYS = flags.DEFINE_integer("ways", None, "Classes in few-shot modes; default: those of the run.")
_NUM_SEQUENCES = flags.DEFINE_integer("num_sequences", 10_000, "Sequences a mode.")


def main(argv: Sequence[str]) -> None:
    """Prints the table and writes it as JSON beside the run."""
    workdir = Workdir(_WORKDIR.value)
    given = {
        "evaluation.num_sequences": _NUM_SEQUENCES.value,
        "evaluation.modes": _MODES.value and tuple(_MODES.value),
        "evaluation.shots": _SHOTS.value,
        "evaluation.ways": _WAYS.value,
    }
    overrides = {path: value for path, value in given.items() if value is not None}
    overrides |= _data_overrides()
    with console.command(argv):
        start.use_compilation_cache()
        names = [_REPLICA.value] if _REPLICA.value else replica_names(workdir.path)
        for name in names:
            try:
                run = load_run(workdir.path, _STEP.value, overrides, name or None)
            except DivergedError as error:
                if len(names) == 1:
                    raise
                console.say(str(error))
            else:
                _evaluate(run, workdir, name)


def _evaluate(run: Run, workdir: Workdir, name: str) -> None:
    evaluate = run.experiment.evaluator()
    results = evaluate(*jax.device_put((run.params, run.batch_stats)), run.device_bank())
    evaluation = run.experiment.config.evaluation
    fewshot = fewshot_options(run.experiment.config)
    asked = {
        "num_sequences": evaluation.num_sequences,
        "shots": fewshot.shots,
        "ways": fewshot.ways,
    }
    path = workdir.evaluation(run.step, *asked.values(), name)
    # Modes that were evaluated before, on as many sequences, are kept.
    evals = read_object(path, "evaluation").get("evals", {}) if path.exists() else {}
    for mode, metrics in results.items():
        evals[mode] = {metric: estimate._asdict() for metric, estimate in metrics.items()}
    who = {"replica": name} if name else {}
    workdir.write_json(path, {**who, "step": run.step, **asked, "evals": evals})
    title = ", ".join(filter(None, (run.experiment.config.name, name, f"step {run.step}")))
    tables.print_evaluations(results, f"{title}, {evaluation.num_sequences} sequences")
    if note := run.experiment.task.length_note:
        console.say(note)
    console.say(f"Written: {path}")
