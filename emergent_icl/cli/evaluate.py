"""Evaluate a trained run in every mode, with 95% intervals.

python -m experiments.evaluate --workdir=DIR [--step=N] [--modes=a,b] [--num_sequences=10000]
    [--shots=4] [--ways=2] [--exemplars=holdout] [--replica=NAME] [--output=FILE]

If several replicas were trained together, evaluates each, or only the one of --replica.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import (
    data_flags,
    num_sequences_flag,
    output_flag,
    replica_flag,
    step_flag,
    workdir_flag,
)
from emergent_icl.config.configs import tuples
from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.runs import evaluations
from emergent_icl.runs.open import Run, load_run, replica_names
from emergent_icl.runs.workdir import DivergedError, Workdir

_WORKDIR, _STEP, _REPLICA = workdir_flag(), step_flag(), replica_flag()
_data_overrides, _output = data_flags(), output_flag()
_OWN = "(default: as in training)."
_EVALUATION = (
    flags.DEFINE_list("modes", None, f"Modes, among {', '.join(EVALUATION_MODES)} {_OWN}"),
    flags.DEFINE_integer("shots", None, f"Examples per class in few-shot modes {_OWN}"),
    flags.DEFINE_integer("ways", None, f"Classes per few-shot sequence {_OWN}"),
    flags.DEFINE_enum(
        "exemplars", None, ["trained", "holdout"], f"Exemplars of trained classes to use {_OWN}"
    ),
    num_sequences_flag(),
)


def main(argv: Sequence[str]) -> None:
    """Prints the table, then writes it as JSON."""
    given = {f"evaluation.{flag.name}": flag.value for flag in _EVALUATION}
    overrides = tuples({path: value for path, value in given.items() if value is not None})
    overrides |= _data_overrides()
    with console.command(argv):
        workdir = Workdir(_WORKDIR.value)
        start.use_compilation_cache()
        names = [_REPLICA.value] if _REPLICA.value else replica_names(workdir.path, overrides)
        output = _output()
        if output and len(names) > 1:
            console.fail(f"--output={output} needs --replica, one of {', '.join(names)}", 2)
        if output:
            evaluations.read(output)  # Fails early if it is another file.
        folder = output.parent if output else workdir.evaluations
        advice = "Results are only printed. To save them, use --output=FILE."
        saves = console.can_write(folder, advice)
        for name in names:
            try:
                run = load_run(workdir.path, _STEP.value, overrides, name or None)
            except DivergedError as error:
                if len(names) == 1:
                    raise
                console.say(str(error))
            else:
                path = output or evaluations.path_of(workdir, run, name)
                _evaluate(run, name, path, saves)


def _evaluate(run: Run, name: str, path: Path, saves: bool) -> None:
    results = run.evaluate(num_sequences=None)
    config, task = run.experiment.config, run.experiment.task
    options = evaluations.changed_options(run)
    # The title states the number of sequences and unusual options.
    options.setdefault("evaluation.num_sequences", config.evaluation.num_sequences)
    if config.evaluation.exemplars != "trained":
        options["evaluation.exemplars"] = config.evaluation.exemplars
    said = evaluations.options_text(options)
    parts = (config.name, name, f"step {run.step}", said, task.length_note)
    with console.printing():
        tables.print_evaluations(results, ", ".join(filter(None, parts)))
        for mode in task.evaluation:
            if said := tables.constant_text(mode, task):
                console.say(f"Accuracy in {mode}: {said}.")
    write = functools.partial(evaluations.write, path, run, results, name)
    if saves and (differ := console.write(path, write)):
        with console.printing():
            console.say(f"Replaced: results {differ}.")
