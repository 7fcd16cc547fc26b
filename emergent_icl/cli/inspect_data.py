"""Shows what a config trains and evaluates on: pictures, class frequencies, burst statistics.

python -m experiments.inspect_data --config=FILE[:preset] --workdir=DIR [--config.x.y=z ...]

Without --config it inspects the run in DIR. Writes DIR/figures/sequences_*.png,
class_frequencies.png and bursts.png there, and DIR/inspection.json; changes nothing else.
Of several replicas it shows the one of --replica=NAME, or the first.
"""

from __future__ import annotations

from collections.abc import Sequence

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

_CONFIG, _WORKDIR, _REPLICA = config_flag(), workdir_flag(), replica_flag()
_data_overrides = data_flags()
_ROWS = flags.DEFINE_integer(
    "rows", 6, "Sequences in each picture.", lower_bound=1, upper_bound=100
)
_SAMPLE = flags.DEFINE_integer(
    "sample", 10_000, "Sequences of each type to measure.", lower_bound=1, upper_bound=1_000_000
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything that is drawn.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Draws, measures, writes, and prints the table."""
    workdir = Workdir(_WORKDIR.value)
    with console.command(argv):
        config = workdir.read_config() if _CONFIG.value is None else _CONFIG.value
        with config.unlocked():
            config.update_from_flattened_dict(_data_overrides())
        replicas = {replica.name: replica for replica in check(config)}
        asked = next(iter(replicas)) if _REPLICA.value is None else _REPLICA.value
        if asked not in replicas:
            names = ", ".join(map(repr, filter(None, replicas))) or "a run that is alone"
            console.fail(f"no replica is named {asked!r}, only {names}")
        replica = replicas[asked]
        there = workdir.read_config() if workdir.config.exists() else config
        different = [path for path, *_ in differing_options(there, config)]
        experiment = build(replica.config)
        workdir.make()
        seed, sample = _SEED.value, _SAMPLE.value
        kind = replica.config.data.sequences.type
        subjects = inspection.draw_subjects(kind, experiment.task, seed, sample)
        written = []
        for name, figure in inspection.figures(experiment, subjects, _ROWS.value, seed):
            written.append(workdir.figures / name)
            style.save(figure, written[-1])
        written.append(workdir.path / "inspection.json")
        workdir.write_json(written[-1], inspection.report(experiment, subjects, seed))
    who = ", ".join(filter(None, (config.name, replica.name)))
    columns = {subject.heading: _column(subject.statistics) for subject in subjects}
    headings = list(columns[subjects[0].heading])
    cells = {name: list(column.values()) for name, column in columns.items()}
    tables.print_columns(f"{who}: {sample:,} sequences of each type, seed {seed}", headings, cells)
    for path in written:
        console.say(f"Written: {path}")
    if different:
        console.say(f"Note: the run in {workdir.path} has another config: {', '.join(different)}.")


def _column(measured: SequenceStatistics) -> dict[str, str]:
    """The table's column for a sequence type: {heading of a row: cell}."""
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
