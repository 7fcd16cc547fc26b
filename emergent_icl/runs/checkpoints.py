"""Checkpoints: Orbax, asynchronous, atomic, without pickles."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from emergent_icl.config.identity import identities, identity
from emergent_icl.data.sources import cache
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.runs.progress import Progress
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training.update import TrainState


class CheckpointError(WorkdirError):
    """A checkpoint cannot be written, or not be read."""


# Orbax counts by the time of day, which may be set while it waits; where folders are made at once
# it has less to wait for.
PATIENCE_SECONDS = 10 * 365 * 24 * 3600
# An empty file in a checkpoint that is never deleted.
_MARK = "LISTED"
# Attempts to read the newest checkpoint of a run that is training.
LOOKS = 10
T = TypeVar("T")


class Found(NamedTuple):
    """The newest checkpoint that can be read, and newer ones that cannot."""

    state: TrainState  # host arrays [R, ...]
    progress: Progress
    unreadable: dict[int, str]  # step -> what is wrong: damaged, or not of this run


class CheckpointStore:
    """Checkpoints of one run by step: the state as host arrays [R, ...], the progress as JSON.

    Use as a context manager: leaving it waits for what is being written. Where several processes
    train the run, all of them save; reading is each one's own.
    """

    def __init__(
        self, folder: Path, keep: int | None = None, config: ml_collections.ConfigDict | None = None
    ) -> None:
        """Opens the folder, which is made when something is saved; the newest `keep` stay, or all.

        The identity of the run's config is saved with each and asked of each; None asks nothing.
        """
        self._folder, self._keep, self._config = folder, keep, config
        self._identity = None if config is None else identity(config)
        # Steps whose checkpoints are never deleted; to be set before the first one is saved.
        self.listed: Collection[int] = ()
        self._manager: ocp.CheckpointManager | None = None
        self._quiet = quiet_orbax()

    def __enter__(self) -> CheckpointStore:
        self._quiet.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        try:
            self._close(kind)
        finally:
            self._quiet.__exit__(None, None, None)

    def _close(self, kind: type[BaseException] | None) -> None:
        if self._manager is None:
            return
        if kind is None:
            with self._saving():
                self._manager.close()
        elif jax.process_count() == 1:
            # What went wrong first is what is told. Other processes might wait forever.
            with contextlib.suppress(Exception):
                self._manager.close()

    def steps(self) -> list[int]:
        """Steps of complete checkpoints, in order; raises CheckpointError if that is no folder."""
        if not self._folder.exists():
            return []
        if not self._folder.is_dir():
            raise CheckpointError(f"{self._folder} is not a folder")
        # One that is being written has a longer name.
        names = (path.name for path in self._folder.iterdir())
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def save(self, state: TrainState, progress: Progress) -> None:
        """Starts to save host arrays [R, ...]; a step that is not newer than others is left alone.

        Raises:
          CheckpointError: this one, or the one before, could not be written.
        """
        about = {"checksum": checksum(state), "identity": self._identity, **progress._asdict()}
        about["weights"] = checksum((state.params, state.batch_stats))
        with self._saving():
            # Not with its parents: a run whose folder was deleted does not make it anew.
            self._folder.mkdir(exist_ok=True)
            if self._manager is None:
                self._manager = _manager(_Retention(self._folder, self._keep, self.listed))
            content = {"state": ocp.args.StandardSave(state), "progress": ocp.args.JsonSave(about)}
            # Several processes must not find by themselves what there is: a shared folder's listing
            # is not the same everywhere at once.
            force = jax.process_count() > 1
            self._manager.save(int(state.step[0]), args=ocp.args.Composite(**content), force=force)
            self._mark()

    def wait(self) -> None:
        """Waits until everything is on disk; raises CheckpointError if it cannot be."""
        if self._manager is not None:
            with self._saving():
                self._manager.wait_until_finished()
                self._mark()

    def _mark(self) -> None:
        """Marks complete listed checkpoints: later commands keep them, whatever those list."""
        for step in {*self.listed} & {*self.steps()} if jax.process_index() == 0 else ():
            (self._folder / str(step) / _MARK).touch()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:  # Another process is gone: no matter of writing.
            raise
        except Exception as error:  # Orbax and its storage raise nearly anything.
            raise CheckpointError(
                f"a checkpoint could not be written in {self._folder}: {_in_a_line(error)}\n"
                "Those before it stand."
            ) from error

    def restore(self, step: int, template: Any) -> tuple[TrainState, Progress]:
        """Reads the checkpoint of one of `steps()`, given a TrainState of shapes [R, ...].

        Raises:
          CheckpointError: it is damaged, or of another run.
        """
        with self._reading(step):
            return self._restore(step, template)

    def restore_weights(self, step: int) -> tuple[Params, BatchStats, dict[str, int]]:
        """Reads weights [R, ...] of any run, and which replicas diverged; see `restore`."""
        with self._reading(step):
            state, about = self._read(step, ocp.args.StandardRestore())
            params, batch_stats = state["params"], state["batch_stats"] or {}
            if about.get("weights") not in (None, checksum((params, batch_stats))):
                raise ValueError("its checksum does not match")
            return params, batch_stats, about.get("diverged", {})

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # What is damaged can raise nearly anything.
            why = _in_a_line(error)
            raise CheckpointError(
                f"the checkpoint of step {step} in {self._folder} cannot be read: {why}"
            ) from error

    def find(self, asked: int | None = None) -> int:
        """The step asked for, or the newest; raises CheckpointError if there is none."""
        run, steps = self._folder.parent, self.steps()
        if not steps:
            raise CheckpointError(f"{run} has no checkpoints yet")
        if asked is not None and asked not in steps:
            raise CheckpointError(f"{run} has no checkpoint of step {asked}, only of {steps}")
        return steps[-1] if asked is None else asked

    def read(
        self, asked: int | None, restore: Callable[[int], T], looks: int = LOOKS
    ) -> tuple[int, T]:
        """Finds and restores a checkpoint; tries again if a run in training removed it."""
        step = self.find(asked)
        try:
            return step, restore(step)
        except CheckpointError:
            # Damaged, if it is still there.
            if looks == 1 or step == self.find(asked):
                raise
        return self.read(asked, restore, looks - 1)

    def newest(self, template: Any) -> Found | None:
        """Reads the newest checkpoint that is good, see `restore`; None if there is none at all.

        Raises:
          CheckpointError: there are some, but none is good, or the machine cannot read one now.
        """
        bad: dict[int, str] = {}
        for step in reversed(self.steps()):
            self._check_access(step)
            try:
                state, progress = self._restore(step, template)
            except MemoryError:
                raise
            except Exception as error:  # See `restore`.
                bad[step] = _in_a_line(error)
            else:
                return Found(state, progress, bad)
        if bad:
            why = "".join(f"\n  step {step}: {why}" for step, why in bad.items())
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read:{why}\n"
                "To start over, use another --workdir or remove that folder."
            )
        return None

    def set_aside(self, step: int) -> Path:
        """Moves a checkpoint out of the way; returns its new place."""
        aside = self._folder.with_name(f"{self._folder.name}_unreadable")
        aside.mkdir(exist_ok=True)
        place, copies = aside / str(step), itertools.count(2)
        while place.exists():
            place = aside / f"{step}-{next(copies)}"
        return (self._folder / str(step)).rename(place)

    def _is_own(self, found: int | None) -> bool:
        """Whether an identity is that of this run, however its config was written."""
        if self._config is None or found in (None, self._identity):
            return True
        return found in identities(self._config)

    def _check_access(self, step: int) -> None:
        """Tells what is damaged from what this process may not, or cannot now, open."""
        try:
            for path in (self._folder / str(step)).rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        file.read(1)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be opened: {error.strerror}: "
                f"{error.filename or self._folder}"
            ) from error

    def _read(self, step: int, how: ocp.args.StandardRestore) -> tuple[Any, dict[str, Any]]:
        """The state and what stands beside it."""
        content = ocp.args.Composite(state=how, progress=ocp.args.JsonRestore())
        restored = _reader().restore(self._folder / str(step), args=content)
        return restored.state, dict(restored.progress)

    def _restore(self, step: int, template: Any) -> tuple[TrainState, Progress]:
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        state, about = self._read(step, ocp.args.StandardRestore(template))
        # Orbax compares names alone.
        leaves = jax.tree_util.tree_leaves_with_path(template)
        for (path, leaf), found in zip(leaves, jax.tree.leaves(state), strict=True):
            if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
                raise ValueError(
                    f"{jax.tree_util.keystr(path)} is {found.dtype} {list(found.shape)}, not "
                    f"{leaf.dtype} {list(leaf.shape)}"
                )
        about.pop("weights", None)
        # Older ones have neither.
        if about.pop("checksum", None) not in (None, checksum(state)):
            raise ValueError("its checksum does not match")
        if not self._is_own(about.pop("identity", None)):
            raise ValueError("it is of a run with another config")
        if int(state.step[0]) != step:
            raise ValueError(f"it is of step {int(state.step[0])}")
        return state, Progress(**about)


class _Retention(NamedTuple):
    """Which checkpoints stay: those listed, now or when they were saved, and the newest others."""

    folder: Path
    keep: int | None  # of the others; None: all
    listed: Collection[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """Orbax asks this of all checkpoints, after each save."""
        del context
        steps = [info.step for info in checkpoints]
        marked = (step for step in steps if (self.folder / str(step) / _MARK).exists())
        others = sorted({*steps} - {*self.listed, *marked})
        deleted = () if self.keep is None else others[: -self.keep]
        return [step not in deleted for step in steps]


def _manager(retention: _Retention) -> ocp.CheckpointManager:
    count = jax.process_count()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=retention,
        create=False,
        # Where process 0 cannot write, others would wait for its background thread for minutes.
        enable_async_checkpointing=count == 1,
        async_options=ocp.options.AsyncOptions(
            timeout_secs=PATIENCE_SECONDS, create_directories_asynchronously=False
        ),
        # Named processes meet without the devices.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            active_processes=set(range(count)) if count > 1 else None
        ),
    )
    return ocp.CheckpointManager(retention.folder, options=options)


def _reader() -> ocp.Checkpointer:
    """Reads without waiting for other processes."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=alone)


def checksum(tree: Any) -> int:
    """A number of 32 bits that the leaves of a state, or of a part of it, have in common."""
    found = 0
    for leaf in jax.tree.leaves(tree):
        found = cache.checksum(leaf, found)
    return found


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Inside, Orbax does not speak for itself: errors are raised, and that is enough.

    It reports every file that it touches, and what it raises besides. Where one part of a read
    or write fails, the others find its event loop closed, and would say so at length, each.
    """
    logger, before = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        logger.setLevel(level)
        sys.unraisablehook = before


def _in_a_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
