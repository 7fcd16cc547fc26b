"""Show the sequences that a config trains and evaluates on, with their statistics.

python -m experiments.inspect_data --config=NAME[:preset] --workdir=DIR [--config.x.y=z ...]
    [--format=png|pdf|svg]

Without --config, inspects the run in DIR. If it is trained, its encoder also compares held-out with
training classes, and ICL is repeated without the held-out classes nearest to a training class.

Writes DIR/inspection.json and, in DIR/figures: sequences_*.png, class_frequencies.png, bursts.png,
and lookalikes.png; changes nothing else. Of several replicas, shows --replica=NAME or the first.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import config_flag, data_flags, format_flag, replica_flag, workdir_flag
from emergent_icl.config.configs import has, with_options
from emergent_icl.config.identity import differing_options
from emergent_icl.data.sequences.burstiness import SequenceStatistics, mean
from emergent_icl.plots import inspection, style
from emergent_icl.plots.bursts import share_text
from emergent_icl.plots.lookalikes import (
    SHARE,
    Lookalikes,
    find_lookalikes,
    lookalikes_figure,
    lookalikes_report,
    named_pairs,
)
from emergent_icl.runs.check import check
from emergent_icl.runs.open import Run, load_run, replica_index
from emergent_icl.runs.provenance import citation, code_commit
from emergent_icl.runs.recorded_data import OtherDataError, check_data
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.replicas import Replica

_CONFIG, _WORKDIR, _REPLICA = config_flag(), workdir_flag(), replica_flag()
_data_overrides, _FORMAT = data_flags(), format_flag()
_ROWS = flags.DEFINE_integer("rows", 6, "Sequences per figure.", lower_bound=1, upper_bound=100)
_SAMPLE = flags.DEFINE_integer(
    "sample", 10_000, "Sequences per type to measure.", lower_bound=1, upper_bound=1_000_000
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all random draws.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Prints the tables, then writes them and the figures."""
    with console.command(argv):
        workdir = Workdir(_WORKDIR.value)
        workdir.check_free()
        config = workdir.read_config() if _CONFIG.value is None else _CONFIG.value
        config = with_options(config, _data_overrides())
        replicas = check(config)
        names = [replica.name for replica in replicas]
        # The first by default.
        replica = replicas[replica_index(workdir, names, _REPLICA.value or names[0] or None)]
        there = workdir.read_config() if workdir.config.exists() else config
        differing = (path for path, *_ in differing_options(there, config))
        different = [path for path in differing if not has(path, "per_machine")]
        run = _trained(workdir, replica) if _CONFIG.value is None else None
        experiment = run.experiment if run else build(replica.config)
        # Options that change the data are intended, and noted below.
        sections = {path.rpartition(".")[0] for path in different} - {"data.sequences"}
        if not any(section.startswith("data") for section in sections):
            check_data(workdir, experiment.bank, (replica,))
        saves = console.can_write(workdir.path, "Tables are only printed.")
        seed, sample = _SEED.value, _SAMPLE.value
        kind = replica.config.data.sequences.type
        subjects = inspection.draw_subjects(kind, experiment.task, seed, sample)
        who = ", ".join(filter(None, (config.name, replica.name)))
        report = inspection.report(experiment, subjects, seed) | {"replica": replica.name}
        drawn = dict(inspection.figures(experiment, subjects, _ROWS.value, seed, who))
        found = find_lookalikes(experiment, run and (run.params, run.batch_stats))
        if found is not None:
            report["lookalikes"] = lookalikes_report(experiment, found)
            drawn["lookalikes.png"] = lookalikes_figure(experiment, found, who)
        columns = {subject.heading: _cells(subject.statistics) for subject in subjects}
        title = f"{who}: {sample:,} sequences of each type, seed {seed}"
        with console.printing():
            tables.print_columns(title, ROWS, columns)
            if found is not None:
                _print_lookalikes(experiment, found)
        if saves:
            for name, figure in drawn.items():
                style.sign(figure, citation(replica.config, code_commit()))
                path = workdir.figures / Path(name).with_suffix(f".{_FORMAT.value}")
                console.write(path, functools.partial(style.save, figure, path))
            path = workdir.path / "inspection.json"
            console.write(path, lambda: workdir.write_json(path, report))
        if different:
            differ = ", ".join(different)
            console.say(f"Note: the run in {workdir.path} has another config: {differ}.")


def _trained(workdir: Workdir, replica: Replica) -> Run | None:
    """The run in the folder at its newest checkpoint, if any."""
    start.use_compilation_cache()
    try:
        return load_run(workdir.path, None, _data_overrides(), replica.name or None)
    except OtherDataError:
        raise
    except WorkdirError as error:
        console.say(f"Without a trained model: {error}")
        return None


def _print_lookalikes(experiment: Experiment, found: Lookalikes) -> None:
    """Prints the nearest pairs, and ICL without their held-out characters."""
    rows = [
        (held_out, training, f"{distance:.3f}", way)
        for way, nearest in found.nearest.items()
        for held_out, training, distance in named_pairs(experiment, nearest.first(SHARE))
    ]
    columns = dict.fromkeys(("held out", "training", "1 - cosine", "by"), tables.NAME)
    share = f"the nearest {100 * SHARE:g}%, rounded up"
    title = f"Held-out characters that are nearest to a training class ({share})"
    tables.print_table(title, columns, rows)
    if found.icl:
        icl = [
            (which, f"{one.num_left_out}", f"{one.num_sequences:,}", tables.cell(one.accuracy))
            for which, one in found.icl.items()
        ]
        headings = ("characters left out", "sequences", "closed accuracy")
        columns = {"": tables.NAME, **dict.fromkeys(headings, tables.NUMBER)}
        title = "ICL with and without the sequences that show one of these characters"
        tables.print_table(title, columns, icl)


ROWS = (
    "examples per sequence", "query's class in context", "... times in context, mean",
    "... most often", "different classes in a sequence, mean",
    "different labels in a sequence, mean", "examples of the sequence's most common class",
    "examples of the sample's most common class",
)  # fmt: skip


def _cells(measured: SequenceStatistics) -> list[str]:
    """The column of a sequence type, by ROWS."""
    times, share = max(measured.support_examples.items(), key=lambda item: item[1])
    means = [f"{mean(found):.2f}" for found in (measured.classes, measured.labels)]
    return [
        f"{measured.seq_len}", share_text(measured.support),
        f"{mean(measured.support_examples):.2f}", f"{times} ({share_text(share)})", *means,
        share_text(measured.commonest_in_sequence), share_text(measured.commonest_overall),
    ]  # fmt: skip
