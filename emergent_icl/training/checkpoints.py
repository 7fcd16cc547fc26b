"""Checkpoints: Orbax, asynchronous, atomic, without pickles."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from emergent_icl.training.state import TrainState


class NonFiniteStateError(FloatingPointError):
    """A state with a NaN or an infinity was about to be saved."""


class Progress(NamedTuple):
    """What a run must know besides its state to go on as if it had not stopped.

    Attributes:
      wall_seconds: time spent so far, all commands together.
      train_seconds: of that, time spent in timed updates ...
      train_steps: ... and how many updates that were.
      window: metrics of steps that are not logged yet, {metric: values} of each replica.
      diverged: name of each replica that diverged -> the step at which it was seen.
      steps_per_call: K; 0 where nothing was computed yet.
    """

    wall_seconds: float = 0.0
    train_seconds: float = 0.0
    train_steps: int = 0
    window: list[dict[str, list[float]]] = []  # noqa: RUF012  (defaults are never mutated)
    diverged: dict[str, int] = {}  # noqa: RUF012
    steps_per_call: int = 0


class CheckpointStore:
    """Checkpoints of one run, by step.

    A checkpoint holds the host's copy of the state, [R, ...] a leaf, and the progress
    as JSON. Use as a context manager: leaving it waits for what is being written.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        """Opens the folder.

        Args:
          folder: made when something is saved.
          keep: newest checkpoints to keep; None keeps all.
        """
        # Orbax reports every file that it touches.
        logging.getLogger("absl").setLevel(logging.WARNING)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=keep is not None)
        self._manager = ocp.CheckpointManager(folder, options=options)

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Steps of complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: Progress, diverged: Collection[int] = ()) -> None:
        """Starts to save; a step that is saved already is left alone.

        Args:
          state: host arrays, [R, ...] a leaf.
          progress: goes with it.
          diverged: replicas that are known to hold anything.

        Raises:
          NonFiniteStateError: the state holds a NaN or an infinity; nothing is written.
        """
        step = int(state.step[0])
        if step in self._manager.all_steps():
            return
        for replica in set(range(len(state.step))) - set(diverged):
            if bad := non_finite_leaves(state, replica):
                raise NonFiniteStateError(f"not finite after step {step}: {', '.join(bad)}")
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                progress=ocp.args.JsonSave(progress._asdict()),
            ),
        )

    def wait(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, template: Any) -> tuple[TrainState, Progress]:
        """Reads the checkpoint of a step.

        Args:
          step: one of `steps()`.
          template: a TrainState of arrays or shapes, [R, ...] a leaf.

        Returns:
          The state as host arrays, and the progress.
        """
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template), progress=ocp.args.JsonRestore()
            ),
        )
        return restored.state, Progress(**restored.progress)


def non_finite_leaves(state: TrainState, replica: int = 0) -> list[str]:
    """Names of the leaves [R, ...] that hold a NaN or an infinity in a replica's part."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in leaves
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf[replica]).all()
    ]
