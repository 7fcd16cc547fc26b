"""summary.json: how a run ended. It is written last, so it also tells that the run has ended."""

import contextlib
from collections.abc import Mapping
from typing import Any

from emergent_icl.evaluation.metrics import Results, curves
from emergent_icl.runs import processes
from emergent_icl.runs.checkpoints import CheckpointError, CheckpointStore
from emergent_icl.runs.progress import Progress, Tracker
from emergent_icl.runs.provenance import code_commit
from emergent_icl.runs.records import (
    PACKAGES,
    Display,
    count_parameters,
    devices_text,
    versions,
)
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.build import Experiment
from emergent_icl.training.update import TrainState


def write(
    experiment: Experiment,
    state: TrainState,
    tracker: Tracker,
    workdir: Workdir,
    step: int,
    results: Mapping[str, Results],
) -> dict[str, Any]:
    """Writes and returns the summary of a run that has ended after a step, or has diverged there.

    `results` are the last evaluation of each replica that has not diverged.
    """
    content = _content(experiment, state, step, results, tracker.progress())
    if processes.is_primary():
        workdir.write_json(workdir.summary, content)
    return content


def of_complete_run(
    experiment: Experiment, workdir: Workdir, store: CheckpointStore
) -> dict[str, Any] | None:
    """The summary of a complete run whose last checkpoint is readable, else None."""
    latest, last = max(store.steps(), default=0), experiment.config.training.num_steps
    if latest > last:
        raise WorkdirError(
            f"{workdir.path} is already at step {latest}, beyond training.num_steps = {last}"
        )
    summary = workdir.read_summary()
    if summary is None or has_diverged(summary):
        return None
    # A summary of fewer steps was written before the run was extended.
    if latest == summary["step"] == last:
        # A damaged one is reported and set aside when the run resumes.
        with contextlib.suppress(CheckpointError):
            store.restore(last, experiment.state_template())
            return summary
    return None


def has_diverged(summary: Mapping[str, Any]) -> bool:
    """Whether the run, or each of its replicas, diverged."""
    ends = summary.get("replicas", {"": summary}).values()
    return all(one.get("diverged_at_step") is not None for one in ends)


def drop_later(workdir: Workdir, step: int, display: Display) -> None:
    """Removes the summary of a run that is trained again from an earlier step."""
    summary = workdir.read_summary()
    if summary is None:
        return
    if has_diverged(summary):  # There is no checkpoint of that step.
        workdir.summary.unlink()
    elif summary["step"] > step:  # Otherwise, the run is being extended.
        workdir.summary.unlink()
        display.warned(
            f"The run had ended at step {summary['step']}, but the checkpoint of that step is gone:"
            f" training goes on after step {step}."
        )


def _content(
    experiment: Experiment,
    state: TrainState,
    step: int,
    results: Mapping[str, Results],
    progress: Progress,
) -> dict[str, Any]:
    """The content of summary.json after a step, given the last evaluation of each replica.

    Results are under 'replicas' and the replica's name; at the top for a single run. A diverged
    replica has only `diverged_at_step` and `last_finite_loss`, None if no loss was finite.
    """
    config, replicas = experiment.config, experiment.replicas
    sequences = progress.train_steps * config.training.batch_size * len(replicas)
    seconds = progress.train_seconds
    own: dict[str, dict[str, Any]] = {}
    for name, one, _ in replicas:
        own[name] = {"seed": one.training.seed, "icl": None, "iwl": None, "evals": {}}
        if name in progress.diverged:
            own[name]["diverged_at_step"] = progress.diverged[name]
            own[name]["last_finite_loss"] = progress.last_losses.get(name)
            continue
        own[name] |= curves(results[name])
        for mode, metrics in results[name].items():
            own[name]["evals"][mode] = {metric: one.mean for metric, one in metrics.items()}
    return {
        "step": step,
        "started": progress.started or None,
        "wall_seconds": progress.wall_seconds,
        "parameters": count_parameters(state.params),
        "train_sequences_per_second": sequences / seconds if seconds else None,
        **own.get("", {"replicas": own}),
        "config_name": config.name,
        "devices": devices_text(),
        "commit": code_commit(),
        "versions": versions(PACKAGES),
    }
