"""Checkpoints: Orbax, asynchronous, atomic, without pickles."""

import contextlib
import functools
import itertools
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from emergent_icl.config.identity import identities, identity
from emergent_icl.data.sources import cache
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.runs.progress import Progress
from emergent_icl.runs.quiet import ignore_late_reports, quiet_orbax
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training.update import TrainState


class CheckpointError(WorkdirError):
    """A checkpoint cannot be written or read."""


# Orbax measures timeouts by the wall clock, which may jump. Ten years: no save times out.
PATIENCE_SECONDS = 10 * 365 * 24 * 3600
# An empty file in a checkpoint that is never deleted.
_MARK = "LISTED"
# In the JSON of checkpoints that `copy_weights` saved.
_WEIGHTS_ONLY = "weights_only"
# Attempts to read the newest checkpoint of a run that is training.
ATTEMPTS = 10
T = TypeVar("T")


class Found(NamedTuple):
    """The newest readable checkpoint, and newer unreadable ones."""

    state: TrainState  # host arrays [R, ...]
    progress: Progress
    unreadable: dict[int, str]  # step -> why: damaged, or from another run


class CheckpointStore:
    """Checkpoints of one run by step: the state as host arrays [R, ...], the progress as JSON.

    Use as a context manager: it waits for pending writes on exit. If several processes train the
    run, all must save; each reads independently.
    """

    def __init__(
        self, folder: Path, keep: int | None = None, config: ConfigDict | None = None
    ) -> None:
        """Keeps the newest `keep` checkpoints (None: all) in a folder, created at the first save.

        The identity of the run's config is saved, and checked on reading; None skips the check.
        """
        self._folder, self._keep, self._config = folder, keep, config
        self._identity = None if config is None else identity(config)
        # Steps whose checkpoints are never deleted. Set it before the first save.
        self.listed: Collection[int] = ()
        self._manager: ocp.CheckpointManager | None = None
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._quiet.enter_context(quiet_orbax())
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        with self._quiet:
            if self._manager is not None and kind is None:
                with self._saving():
                    self._manager.close()
            elif self._manager is not None and jax.process_count() == 1:
                # Report the first error. With several processes, closing might wait forever.
                try:
                    self._manager.close()
                except Exception:
                    ignore_late_reports()

    def steps(self) -> list[int]:
        """Sorted steps of complete checkpoints; raises CheckpointError if it is not a folder."""
        if not self._folder.exists():
            return []
        if not self._folder.is_dir():
            raise CheckpointError(f"{self._folder} is not a folder")
        # Incomplete checkpoints have longer names.
        names = (path.name for path in self._folder.iterdir())
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def save(self, state: TrainState, progress: Progress) -> None:
        """Starts saving host arrays [R, ...], unless a checkpoint of this or a later step exists.

        Raises:
          CheckpointError: this checkpoint or the previous one cannot be written.
        """
        about = {"checksum": checksum(state), "identity": self._identity, **progress._asdict()}
        about["weights"] = checksum((state.params, state.batch_stats))
        self._save(state, about)

    def _save(self, state: TrainState, about: dict[str, Any]) -> None:
        with self._saving():
            # Do not create parents: a run whose folder was deleted must not recreate it.
            self._folder.mkdir(exist_ok=True)
            if self._manager is None:
                self._manager = _manager(_Retention(self._folder, self._keep, self.listed))
            content = {"state": ocp.args.StandardSave(state), "progress": ocp.args.JsonSave(about)}
            # Processes may see different listings of a shared folder.
            force = jax.process_count() > 1
            self._manager.save(int(state.step[0]), args=ocp.args.Composite(**content), force=force)
            self._mark()

    def wait(self) -> None:
        """Waits until everything is on disk; raises CheckpointError if it cannot be written."""
        if self._manager is not None:
            with self._saving():
                self._manager.wait_until_finished()
                self._mark()

    def _mark(self) -> None:
        """Marks complete listed checkpoints, so that later commands keep them."""
        for step in {*self.listed} & {*self.steps()} if jax.process_index() == 0 else ():
            (self._folder / str(step) / _MARK).touch()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:  # Another process has ended.
            raise
        except Exception as error:  # Orbax and its storage raise many kinds.
            ignore_late_reports()
            raise CheckpointError(
                f"a checkpoint could not be written in {self._folder}: {_in_a_line(error)}\n"
                "Earlier checkpoints are intact."
            ) from error

    def restore(self, step: int, template: Any) -> tuple[TrainState, Progress]:
        """Reads the checkpoint of one of `steps()`, given a TrainState of shapes [R, ...].

        If it holds weights only, `opt_state` is ().

        Raises:
          CheckpointError: it is damaged, or from another run.
        """
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        with self._reading(step):
            about = self._about(step)
            if about.pop(_WEIGHTS_ONLY, False):
                template = template._replace(opt_state=())
            state = self._state(step, template)
            # Orbax compares only names.
            leaves = jax.tree_util.tree_leaves_with_path(template)
            for (path, leaf), found in zip(leaves, jax.tree.leaves(state), strict=True):
                if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
                    raise ValueError(
                        f"{jax.tree_util.keystr(path)} is {found.dtype} {list(found.shape)}, not "
                        f"{leaf.dtype} {list(leaf.shape)}"
                    )
            about = {name: about[name] for name in about.keys() - {"weights", "identity"}}
            # Older checkpoints have no checksum.
            if about.pop("checksum", None) not in (None, checksum(state)):
                raise ValueError("its checksum does not match")
            if int(state.step[0]) != step:
                raise ValueError(f"it contains the state of step {int(state.step[0])}")
            return state, Progress(**about)

    def restore_weights(self, step: int) -> tuple[Params, BatchStats, dict[str, int]]:
        """Weights [R, ...] of any run, and when replicas diverged; raises like `restore`."""
        state, about = self._whole(step)
        return state.params, state.batch_stats, about.get("diverged", {})

    def copy_weights(self, step: int, folder: Path) -> None:
        """Saves a checkpoint without the optimizer's state in another folder; raises likewise."""
        state, about = self._whole(step)
        state = state._replace(opt_state=())
        about |= {_WEIGHTS_ONLY: True, "checksum": checksum(state)}
        with CheckpointStore(folder) as other:
            other._save(state, about)

    def holds_weights_only(self, step: int) -> bool:
        """Whether a checkpoint lacks the optimizer's state; raises like `restore`."""
        with self._reading(step):
            return self._about(step).get(_WEIGHTS_ONLY, False)

    def _whole(self, step: int) -> tuple[TrainState, dict[str, Any]]:
        """A checkpoint as dictionaries of arrays, with intact weights, and its JSON."""
        with self._reading(step):
            found, about = self._state(step), self._about(step)
            # Orbax restores an empty dictionary as None.
            state = TrainState(**found)._replace(batch_stats=found["batch_stats"] or {})
            if about.get("weights") not in (None, checksum((state.params, state.batch_stats))):
                raise ValueError("its checksum does not match")
            return state, about

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # Damaged files raise many kinds.
            ignore_late_reports()
            what = f"the checkpoint of step {step} in {self._folder} cannot be read"
            raise CheckpointError(f"{what}: {_in_a_line(error)}") from error

    def find(self, requested: int | None = None) -> int:
        """The requested step, or the newest; raises CheckpointError if there is none."""
        run, steps = self._folder.parent, self.steps()
        if not steps:
            raise CheckpointError(f"{run} has no checkpoints yet")
        if requested is not None and requested not in steps:
            what = f"{run} has no checkpoint of step {requested}"
            raise CheckpointError(f"{what} (available: {', '.join(map(str, steps))})")
        return steps[-1] if requested is None else requested

    def read(
        self, requested: int | None, restore: Callable[[int], T], attempts: int = ATTEMPTS
    ) -> tuple[int, T]:
        """Finds and restores a checkpoint; tries again if a training run has just removed it."""
        step = self.find(requested)
        try:
            return step, restore(step)
        except CheckpointError:
            # If it is still listed, it is damaged.
            if attempts == 1 or step == self.find(requested):
                raise
        return self.read(requested, restore, attempts - 1)

    def newest(self, template: Any) -> Found | None:
        """Reads the newest valid checkpoint, see `restore`; None if there are no checkpoints.

        Removes what killed saves left, so only the command that trains the run may call it.

        Raises:
          CheckpointError: none is valid, the newest holds weights only, or one cannot be opened at
            present.
        """
        found, bad = None, dict[int, str]()
        for step in reversed(self.steps()):
            self._check_access(step)
            try:
                found = Found(*self.restore(step, template), bad)
                break
            except CheckpointError as error:
                bad[step] = _in_a_line(error.__cause__ or error)
        if found and self.holds_weights_only(step := int(found.state.step[0])):
            raise CheckpointError(
                f"the checkpoint of step {step} in {self._folder} holds weights only: this run can "
                "be opened, but not resumed. To start a new run from its weights, use "
                "training.initial.run and another --workdir."
            )
        if bad and not found:
            why = "".join(f"\n  step {step}: {why}" for step, why in bad.items())
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read:{why}\n"
                "To start over, use another --workdir or remove that folder."
            )
        # Orbax replaces only an incomplete checkpoint of the step that it saves.
        for path in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)
        return found

    def set_aside(self, step: int) -> Path:
        """Moves a checkpoint to another folder; returns its new path."""
        aside = self._folder.with_name(f"{self._folder.name}_unreadable")
        aside.mkdir(exist_ok=True)
        place, copies = aside / str(step), itertools.count(2)
        while place.exists():
            place = aside / f"{step}-{next(copies)}"
        return (self._folder / str(step)).rename(place)

    def _check_access(self, step: int) -> None:
        """Raises CheckpointError if a file cannot be opened, which is no sign of damage."""
        try:
            for path in filter(Path.is_file, (self._folder / str(step)).rglob("*")):
                with path.open("rb") as file:
                    file.read(1)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be opened: {error.strerror}: "
                f"{error.filename or self._folder}"
            ) from error

    def _state(self, step: int, template: TrainState | None = None) -> Any:
        return self._read(step, state=ocp.args.StandardRestore(template)).state

    def _about(self, step: int) -> dict[str, Any]:
        """The JSON of a checkpoint; raises ValueError if it is from another config."""
        about = dict(self._read(step, progress=ocp.args.JsonRestore()).progress)
        # An equivalent config may be written differently. Older checkpoints have no identity.
        found, config, known = about.get("identity"), self._config, (None, self._identity)
        if config is not None and found not in known and found not in identities(config):
            raise ValueError("it belongs to a run with another config")
        return about

    def _read(self, step: int, **content: Any) -> Any:
        own = jax.process_index()  # Read without waiting for other processes.
        alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
        reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=alone)
        return reader.restore(self._folder / str(step), args=ocp.args.Composite(**content))


class _Retention(NamedTuple):
    """Keeps listed checkpoints, those listed when they were saved, and the newest others."""

    folder: Path
    keep: int | None  # of the others; None: all
    listed: Collection[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """Orbax calls this with all checkpoints after each save."""
        steps = [info.step for info in checkpoints]
        marked = (step for step in steps if (self.folder / str(step) / _MARK).exists())
        others = sorted({*steps} - {*self.listed, *marked})
        deleted = () if self.keep is None else others[: -self.keep]
        return [step not in deleted for step in steps]


def _manager(retention: _Retention) -> ocp.CheckpointManager:
    count = jax.process_count()
    # With named processes, Orbax synchronizes without the devices.
    processes = set(range(count)) if count > 1 else None
    options = ocp.CheckpointManagerOptions(
        preservation_policy=retention,
        create=False,
        # If process 0 cannot write, others would wait for its background thread for minutes.
        enable_async_checkpointing=count == 1,
        # Creating folders synchronously shortens the waits.
        async_options=ocp.options.AsyncOptions(
            timeout_secs=PATIENCE_SECONDS, create_directories_asynchronously=False
        ),
        multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=processes),
    )
    return ocp.CheckpointManager(retention.folder, options=options)


def checksum(tree: Any) -> int:
    """A 32-bit checksum of all leaves."""
    leaves = jax.tree.leaves(tree)
    return functools.reduce(lambda found, leaf: cache.checksum(leaf, found), leaves, 0)


def _in_a_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
