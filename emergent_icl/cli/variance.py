"""Find out why ICL varies between replicates: evaluation sequences, held-out classes, training.

python -m experiments.variance --workdir=DIR [--num_holdout=10,100] [--num_sequences=10000]
    [--output=FOLDER] [--format=png|pdf|svg]

The run must contain replicas that combine several values of data.split.seed with several of
training.seed, as in the preset omniglot:crossed. Prints standard deviations by source, and writes
them to variance.json, with a figure.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import format_flag, output_flag, workdir_flag
from emergent_icl.plots import style
from emergent_icl.plots.variance import RUNS, variance_figure
from emergent_icl.runs.open import NUM_SEQUENCES
from emergent_icl.runs.provenance import citation
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.variance import Decomposition, decompose, read_answers

_WORKDIR, _output, _FORMAT = workdir_flag(), output_flag(), format_flag()
_NUM_HOLDOUT = flags.DEFINE_list(
    "num_holdout", ["10", "100"], "Numbers of held-out classes for which to estimate variances."
)
_NUM_SEQUENCES = flags.DEFINE_integer(
    "num_sequences", NUM_SEQUENCES, "Sequences on which to evaluate each replica."
)


def main(argv: Sequence[str]) -> None:
    """Prints the table, then writes it as JSON and as a figure."""
    if not all(word.isdecimal() and int(word) > 1 for word in _NUM_HOLDOUT.value):
        console.fail(f"--num_holdout={','.join(_NUM_HOLDOUT.value)} must be integers >= 2", 2)
    numbers = sorted(set(map(int, _NUM_HOLDOUT.value)))
    with console.command(argv):
        workdir = Workdir(_WORKDIR.value)
        folder = _output() or workdir.figures
        saves = console.can_write(
            folder, "Results are only printed. To save them, use --output=FOLDER."
        )
        start.use_compilation_cache()
        config, summary = workdir.read_config(), workdir.read_summary() or {}
        try:
            answers = read_answers(workdir, _NUM_SEQUENCES.value)
            found = decompose(answers)
        except ValueError as error:
            console.fail(str(error))
        # Of a run as it is usually evaluated.
        num_sequences = config.evaluation.num_sequences
        num_splits, num_seeds, _ = answers.is_correct.shape
        title = (
            f"{config.name}: standard deviation of ICL (mean {found.accuracy:.3f}) on "
            f"{num_sequences:,} sequences, from {num_splits} splits x {num_seeds} training seeds"
        )
        columns = {
            f"{number} held-out classes": found.deviations(number, num_sequences)
            for number in numbers
        }
        cells = {name: list(map(str, own.values())) for name, own in columns.items()}
        with console.printing():
            tables.print_columns(title, list(next(iter(columns.values()))), cells, "source")
        if not saves:
            return
        about = {"splits": num_splits, "seeds": num_seeds, "accuracy": found.accuracy}
        about |= {"num_sequences": num_sequences, "evaluated_on": _NUM_SEQUENCES.value}
        about |= {"holdout": {str(one): _numbers(found, one, num_sequences) for one in numbers}}
        path = folder / "variance.json"
        console.write(path, lambda: workdir.write_json(path, about))
        figure = variance_figure(found, numbers, num_sequences, title)
        style.sign(figure, citation(config, summary.get("commit")))
        drawn = folder / f"variance.{_FORMAT.value}"
        console.write(drawn, lambda: style.save(figure, drawn))


def _numbers(found: Decomposition, num_classes: int, num_sequences: int) -> dict[str, Any]:
    """Deviations by source and standard errors of means, each as [estimate, low, high]."""
    errors = {
        name: {
            str(runs): found.error_of_mean(runs, num_classes, num_sequences, one_split=one_split)
            for runs in RUNS
        }
        for name, one_split in (("one_split", True), ("own_splits", False))
    }
    return {"deviations": found.deviations(num_classes, num_sequences), "errors_of_mean": errors}
