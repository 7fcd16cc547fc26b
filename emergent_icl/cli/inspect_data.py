"""Shows what a config trains and evaluates on: pictures, class frequencies, burst statistics.

python -m experiments.inspect_data --config=FILE[:preset] --workdir=DIR [--config.x.y=z ...]

Without --config it inspects the run in DIR. Writes DIR/figures/sequences_*.png,
class_frequencies.png and bursts.png there, and DIR/inspection.json; changes nothing else.
Of several replicas it shows the one of --replica=NAME, or the first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import ml_collections
from absl import flags

from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag, data_flags, replica_flag, workdir_flag
from emergent_icl.config.identity import differing_options
from emergent_icl.data.sequences.burstiness import SequenceStatistics, mean
from emergent_icl.plots import inspection, style
from emergent_icl.plots.bursts import share_text
from emergent_icl.runs.check import check
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.build import build
from emergent_icl.training.replicas import find_replica

_CONFIG, _WORKDIR, _REPLICA = config_flag(), workdir_flag(), replica_flag()
_data_overrides = data_flags()
_ROWS = flags.DEFINE_integer(
    "rows", 6, "Sequences in each picture.", lower_bound=1, upper_bound=100
)
_SAMPLE = flags.DEFINE_integer(
    "sample", 10_000, "Sequences of each type to measure.", lower_bound=1, upper_bound=1_000_000
)
_SEED = flags.DEFINE_integer("seed", 0, "Of everything that is drawn.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Draws, measures, writes, and prints the table."""
    console.refuse_leftovers(argv)
    workdir = Workdir(_WORKDIR.value)
    with console.clear_errors():
        config = workdir.read_config() if _CONFIG.value is None else _CONFIG.value
        with config.unlocked():
            config.update_from_flattened_dict(_data_overrides())
        replicas = check(config)
        try:
            replica = find_replica(replicas, _REPLICA.value)
        except ValueError as error:
            console.say_error(str(error))
            sys.exit(1)
        differences = _differences(workdir, config)
        config = replica.config
        experiment = build(config)
        workdir.make()
        subjects = inspection.draw_subjects(
            config.data.sequences.type, experiment.task, _SEED.value, _SAMPLE.value
        )
        written = []
        for name, figure in inspection.figures(experiment, subjects, _ROWS.value, _SEED.value):
            written.append(workdir.figures / name)
            style.save(figure, written[-1])
        written.append(workdir.path / "inspection.json")
        workdir.write_json(written[-1], inspection.report(experiment, subjects, _SEED.value))
    who = f", {replica.name}" if replica.name else ""
    title = f"{config.name}{who}: {_SAMPLE.value:,} sequences of each type, seed {_SEED.value}"
    columns = {subject.heading: _column(subject.statistics) for subject in subjects}
    cells = {heading: list(column.values()) for heading, column in columns.items()}
    tables.print_columns(title, list(columns[subjects[0].heading]), cells)
    for path in written:
        console.say(f"Written: {path}")
    if differences:
        console.say(
            f"Note: the run in {workdir.path} has another config: {', '.join(differences)}."
        )


def _column(measured: SequenceStatistics) -> dict[str, str]:
    """What the table says of a sequence type: heading of a row -> cell."""
    times, share = max(measured.support_examples.items(), key=lambda item: item[1])
    return {
        "examples in a sequence": f"{measured.seq_len}",
        "the query's class is in the context": share_text(measured.support),
        "... how many times, mean": f"{mean(measured.support_examples):.2f}",
        "... most often": f"{times} ({share_text(share)})",
        "different classes in a sequence, mean": f"{mean(measured.classes):.2f}",
        "different labels in a sequence, mean": f"{mean(measured.labels):.2f}",
        "examples that are of the sequence's commonest class": share_text(
            measured.commonest_in_sequence
        ),
        "examples that are of the sample's commonest class": share_text(measured.commonest_overall),
    }


def _differences(workdir: Workdir, config: ml_collections.ConfigDict) -> list[str]:
    """Options in which the run in the folder differs, if there is one."""
    if not workdir.config.exists():
        return []
    return [path for path, *_ in differing_options(workdir.read_config(), config)]
