"""Looks into a trained run: its predictions at every example, and where its attention goes.

python -m experiments.inspect_run --workdir=DIR [--mode=fewshot_holdout] [--sequences=0,1,2]
    [--step=N] [--replica=NAME]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from emergent_icl.cli import console, start
from emergent_icl.cli.flags import data_flags, replica_flag, step_flag, workdir_flag
from emergent_icl.evaluation.evaluate import ICL
from emergent_icl.evaluation.trace import trace
from emergent_icl.plots import style
from emergent_icl.plots.traces import attention_figure, predictions_figure
from emergent_icl.runs.open import load_run
from emergent_icl.runs.workdir import Workdir

_WORKDIR, _STEP, _REPLICA = workdir_flag(), step_flag(), replica_flag()
_data_overrides = data_flags()
_MODE = flags.DEFINE_string("mode", ICL[0], "Evaluation mode whose sequences are shown.")
_SEQUENCES = flags.DEFINE_list("sequences", ["0", "1", "2"], "Which of its sequences.")


def main(argv: Sequence[str]) -> None:
    """Draws the figures into the run's folder; changes nothing else there."""
    console.refuse_leftovers(argv)
    if not all(word.isdecimal() for word in _SEQUENCES.value) or not _SEQUENCES.value:
        console.say_error(f"--sequences={','.join(_SEQUENCES.value)} must be numbers from 0")
        sys.exit(2)
    rows = list(dict.fromkeys(int(word) for word in _SEQUENCES.value))
    workdir = Workdir(_WORKDIR.value)
    start.use_compilation_cache()
    overrides = {"evaluation.modes": (_MODE.value,), **_data_overrides()}
    with console.clear_errors():
        run = load_run(workdir.path, _STEP.value, overrides, _REPLICA.value)
        try:
            model = (run.params, run.batch_stats, run.device_bank())
            found = trace(run.experiment.evaluator(), *model, _MODE.value, rows)
        except ValueError as error:
            console.say_error(str(error))
            sys.exit(1)
    who = f", {_REPLICA.value}" if _REPLICA.value else ""
    title = f"{run.experiment.config.name}{who}, step {run.step:,}, {_MODE.value}"
    stem = f"{_MODE.value}_step_{run.step}" + (f"_{_REPLICA.value}" if _REPLICA.value else "")
    path = workdir.figures / f"predictions_{stem}.png"
    style.save(predictions_figure(found, title), path)
    console.say(f"Written: {path}")
    if found.attention is None:
        console.say(f"{run.experiment.config.model.sequence_model} has no attention to show.")
        return
    for index, row in enumerate(rows):
        path = workdir.figures / f"attention_{stem}_sequence_{row}.png"
        style.save(attention_figure(found, index, f"{title}, sequence {row}"), path)
        console.say(f"Written: {path}")
