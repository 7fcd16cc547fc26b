"""Find out why ICL varies between replicas: evaluation sequences, held-out classes, training.

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
from emergent_icl.cli.flags import (
    data_flags,
    format_flag,
    num_sequences_flag,
    output_flag,
    workdir_flag,
)
from emergent_icl.plots import style
from emergent_icl.plots.variance import RUNS, variance_figure
from emergent_icl.runs.provenance import citation, config_hash
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.answers import read_answers
from emergent_icl.sweeps.variance import SOURCES, TOGETHER, Decomposition, decompose

_WORKDIR, _data_overrides = workdir_flag(), data_flags()
_output, _FORMAT, _NUM_SEQUENCES = output_flag(), format_flag(), num_sequences_flag()
_NUM_HOLDOUT = flags.DEFINE_list(
    "num_holdout", ["10", "100"], "Numbers of held-out classes for which to estimate variances."
)


def main(argv: Sequence[str]) -> None:
    """Prints the table, then writes it as JSON and as a figure."""
    numbers = _numbers(_NUM_HOLDOUT.value)
    with console.command(argv):
        workdir = Workdir(_WORKDIR.value)
        folder = _output() or workdir.figures
        saves = console.can_write(
            folder, "Results are only printed. To save them, use --output=FOLDER."
        )
        start.use_compilation_cache()
        config, summary = workdir.read_config(), workdir.read_summary() or {}
        answers = read_answers(workdir, _NUM_SEQUENCES.value, _data_overrides())
        # Of a run as it is usually evaluated.
        num_sequences = config.evaluation.num_sequences
        try:
            found = decompose(answers)
        except ValueError as error:
            console.fail(str(error))
        try:
            deviations = {one: found.deviations(one, num_sequences) for one in numbers}
        except ValueError as error:
            console.fail(f"--num_holdout: {error}")
        num_splits, num_seeds, _ = answers.is_correct.shape
        title = (
            f"{config.name}, step {answers.step}: standard deviation of ICL (mean "
            f"{found.accuracy:.3f}) on {num_sequences:,} sequences, from {num_splits} splits x "
            f"{num_seeds} training seeds"
        )
        columns = {
            f"{one} held-out classes": [*map(str, v.values())] for one, v in deviations.items()
        }
        with console.printing():
            tables.print_columns(title, (*SOURCES, TOGETHER), columns, "source")
        if not saves:
            return
        about = {
            "config": config_hash(config), "step": answers.step,
            "splits": num_splits, "seeds": num_seeds, "accuracy": found.accuracy,
            "num_sequences": num_sequences, "evaluated_on": _NUM_SEQUENCES.value,
            "holdout": {
                str(one): {"deviations": own, "errors_of_mean": _errors(found, one, num_sequences)}
                for one, own in deviations.items()
            },
        }  # fmt: skip
        path = folder / "variance.json"
        console.write(path, lambda: workdir.write_json(path, about))
        figure = variance_figure(found, numbers, num_sequences, title)
        style.sign(figure, citation(config, summary.get("commit")))
        drawn = folder / f"variance.{_FORMAT.value}"
        console.write(drawn, lambda: style.save(figure, drawn))


def _numbers(words: Sequence[str]) -> list[int]:
    if not words or not all(word.isdecimal() for word in words):
        console.fail(f"--num_holdout={','.join(words)} must be integers >= 0", 2)
    return sorted(set(map(int, words)))


def _errors(found: Decomposition, num_classes: int, num_sequences: int) -> dict[str, Any]:
    """Standard errors of means by number of runs, [estimate, low, high]."""
    return {
        name: {
            str(runs): found.error_of_mean(runs, num_classes, num_sequences, one_split=one_split)
            for runs in RUNS
        }
        for name, one_split in (("one_split", True), ("own_splits", False))
    }
