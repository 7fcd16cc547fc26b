"""Show a trained run's predictions and attention on single sequences.

python -m experiments.inspect_run --workdir=DIR [--mode=fewshot_holdout] [--sequences=0,1,2]
    [--step=N] [--replica=NAME] [--output=FOLDER]
    [--format=png|pdf|svg]
"""

from collections.abc import Sequence

from absl import flags
from matplotlib.figure import Figure

from emergent_icl.cli import console, start
from emergent_icl.cli.flags import (
    data_flags,
    format_flag,
    output_flag,
    replica_flag,
    step_flag,
    workdir_flag,
)
from emergent_icl.evaluation.metrics import ICL
from emergent_icl.evaluation.trace import trace
from emergent_icl.plots import style
from emergent_icl.plots.traces import attention_figure, predictions_figure
from emergent_icl.runs.open import load_run
from emergent_icl.runs.provenance import citation
from emergent_icl.runs.workdir import Workdir

_WORKDIR, _STEP, _REPLICA = workdir_flag(), step_flag(), replica_flag()
_data_overrides, _output, _FORMAT = data_flags(), output_flag(), format_flag()
_MODE = flags.DEFINE_string("mode", ICL[0], "Evaluation mode to show.")
_SEQUENCES = flags.DEFINE_list(
    "sequences", ["0", "1", "2"], "Indices of the sequences to show, from 0."
)


def main(argv: Sequence[str]) -> None:
    """Draws the figures."""
    if not all(word.isdecimal() for word in _SEQUENCES.value) or not _SEQUENCES.value:
        console.fail(f"--sequences={','.join(_SEQUENCES.value)} must be integers >= 0", 2)
    rows = list(dict.fromkeys(map(int, _SEQUENCES.value)))
    replica, mode = _REPLICA.value, _MODE.value
    with console.command(argv):
        workdir = Workdir(_WORKDIR.value)
        folder = _output() or workdir.figures
        if not console.can_write(folder, "Use --output=FOLDER."):
            return
        start.use_compilation_cache()
        overrides = {"evaluation.modes": (mode,), **_data_overrides()}
        run = load_run(workdir.path, _STEP.value, overrides, replica)
        try:
            model = (run.params, run.batch_stats, run.device_bank())
            found = trace(run.experiment.evaluator(), *model, mode, rows)
        except ValueError as error:
            console.fail(str(error))
        note = run.experiment.task.length_note
        parts = (run.trained.name, replica, f"step {run.step:,}", mode, note)
        title = ", ".join(filter(None, parts))
        cited = citation(run.trained, (workdir.read_summary() or {}).get("commit"))
        stem = "_".join(filter(None, (mode, f"step_{run.step}", replica)))

        def write(name: str, figure: Figure) -> None:
            path = folder / f"{name}.{_FORMAT.value}"
            style.sign(figure, cited)
            console.write(path, lambda: style.save(figure, path))

        write(f"predictions_{stem}", predictions_figure(found, title))
        if found.attention is None:
            console.say(f"{run.trained.model.sequence_model} has no attention to show.")
            return
        for index, row in enumerate(rows):
            figure = attention_figure(found, index, f"{title}, sequence {row}")
            write(f"attention_{stem}_sequence_{row}", figure)
