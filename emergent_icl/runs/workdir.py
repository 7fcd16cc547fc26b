"""A work directory: where a run keeps its config, metrics, checkpoints and figures."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections

# It registers what derived options mean, which configs are compared by.
import emergent_icl.training.replicas  # noqa: F401
from emergent_icl.config.configs import is_resumable, place, tuples
from emergent_icl.config.identity import completed, differing_options, kept, lacking
from emergent_icl.config.registry import SCHEDULES
from emergent_icl.runs.locks import try_lock

# What launchers, `inspect_data` and a killed start leave where no run has begun.
_BEFORE_A_RUN = ("train.log", "job.json", "inspection.json", "figures", "*.tmp")
# Only a drive of Windows is a single letter. A Path has lost one of the two slashes.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class WorkdirError(RuntimeError):
    """The work directory does not fit the command."""


class DivergedError(WorkdirError):
    """The replica that is asked for diverged: there is nothing to open."""


class Workdir:
    """Paths and small files of one run; raises WorkdirError for what is no folder's path."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _local_folder(path)
        self.config = self.path / "config.json"
        # What it is trained on, see recorded_data.py.
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        # What came out, once the run is complete.
        self.summary = self.path / "summary.json"
        # Held by the command that trains here; who that is.
        self.lock = self.path / ".lock"
        # Where a launcher of many started the run: its output, and which job of a cluster it is.
        self.log = self.path / "train.log"
        self.job = self.path / "job.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.figures = self.path / "figures"
        # Of replicas below their names; see `evaluations.write`.
        self.evaluations = self.path / "evaluations"
        self.learning_curves = self.figures / "learning_curves.png"

    @staticmethod
    def write_json(path: Path, content: Any) -> None:
        """Writes a file of this folder as a whole or not at all."""
        # NaN is not JSON: better no file than one that others cannot read.
        write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """The content of summary.json; None if the run was never complete, or it is damaged."""
        try:
            summary = read_object(self.summary, "summary")
        except (WorkdirError, OSError):
            return None
        return summary if isinstance(summary.get("step"), int) else None

    def read_config(self) -> ml_collections.ConfigDict:
        """The config that the run was started with, in today's options (see `completed`), locked.

        Raises:
          WorkdirError: there is none, or it is damaged.
        """
        if not self.config.exists():
            raise WorkdirError(f"{self.path} is not the work directory of a run: no config.json")
        try:
            return read_config(self.config)
        except WorkdirError as error:
            raise WorkdirError(
                f"{error}\nWithout that file the run resumes with the config of the command; "
                "checkpoints of another one are refused."
            ) from error

    def resumed(
        self, config: ml_collections.ConfigDict
    ) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
        """The config with which a command resumes the run in this folder, if any; see `kept`.

        Raises WorkdirError where config.json is damaged.
        """
        if not self.config.exists():
            return config, {}
        self.read_config()  # Says what is wrong with a damaged one.
        return kept(read_object(self.config, "config"), config)

    def check(self, config: ml_collections.ConfigDict) -> None:
        """Checks that the run in this folder, if there is one, is the same; writes nothing.

        Raises:
          WorkdirError: it is another one (names the options), or see `check_free`.
        """
        self.check_free()
        if differences := "\n  ".join(self.differences(config)):
            raise WorkdirError(
                f"{self.path} holds a run with another config:\n  {differences}\n"
                "Use another --workdir, or the same config to resume."
            )

    def check_free(self) -> None:
        """Raises WorkdirError if this is no run's folder and holds somebody else's files."""
        if not self.config.exists() and not self.holds_checkpoints():
            check_nothing_foreign(self.path, _BEFORE_A_RUN)

    def holds_checkpoints(self) -> bool:
        """Whether a run was saved here, complete or not."""
        steps = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return any(path.name.isdecimal() for path in steps)

    def differences(self, config: ml_collections.ConfigDict) -> list[str]:
        """In which options the run in this folder, if there is one, is another one."""
        if not self.config.exists():
            return []
        config, _ = self.resumed(config)
        # Where rates depend on the number of steps a longer run is another run.
        is_fixed = SCHEDULES.about(config.training.optimizer.schedule).reads_num_steps
        return [
            f"{path}: {old!r} there, {new!r} here"
            for path, old, new in differing_options(self.read_config(), config)
            if not is_resumable(path) or (is_fixed and path == "training.num_steps")
        ]

    def make(self) -> None:
        """Makes the folder, if it is not there; raises WorkdirError if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.path, os.W_OK)
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be made: {error}") from error
        if not writable:
            raise WorkdirError(f"{self.path} cannot be written")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other command may train here; raises WorkdirError if one does."""
        try:
            file = self.lock.open("a+", encoding="utf-8")
        except PermissionError:  # A colleague's, in a folder that both may write.
            file = self.lock.open(encoding="utf-8")
        with file:
            if not try_lock(file):
                who = self.lock.read_text(encoding="utf-8").strip() or "another command"
                raise WorkdirError(f"{self.path} is in use by {who}")
            if file.writable():
                # Who holds it is a courtesy: where the disk is full it is held all the same.
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), 0)
                    who = f"process {os.getpid()} on {platform.node()}\n"
                    os.write(file.fileno(), who.encode())
            yield

    def claim(self, config: ml_collections.ConfigDict) -> None:
        """Writes the config: from now on the folder is this run's.

        Options that came after the run stay out, so that the same command resumes it again.
        """
        tree = tuples(config.to_dict())
        before = lacking(read_object(self.config, "config")) if self.config.exists() else {}
        for path, value in before.items():
            section, name = place(tree, path)
            if section and name in section and section[name] == value:
                del section[name]
        self.write_json(self.config, tree)


def _local_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder, ~ expanded; raises WorkdirError for an empty one or a URL."""
    text = os.path.expanduser(path)
    if not text.strip():
        raise WorkdirError("the path of the work directory is empty (the current folder is '.')")
    if _URL.match(text):
        raise WorkdirError(f"'{text}' is a URL: work directories are local or mounted folders")
    if text.startswith("~"):
        raise WorkdirError(f"there is no home folder '{text.split('/')[0]}' for {text}")
    return Path(text).absolute()


def check_nothing_foreign(folder: Path, own: Sequence[str]) -> None:
    """Raises WorkdirError if a folder holds more than hidden files, empty folders and its own.

    `own` are names, or patterns like '*.tmp'; the folder need not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise WorkdirError(f"{folder} is not a folder")
    foreign = [
        path.name
        for path in sorted(folder.iterdir() if folder.exists() else ())
        if not path.name.startswith(".")
        and not any(path.match(name) for name in own)
        and (path.is_file() or any(one.is_file() for one in path.rglob("*")))
    ]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise WorkdirError(
            f"{folder} holds files that are not of this program, and might be overwritten: "
            f"{', '.join(foreign[:3])}{more}\n"
            "Use a new or an empty folder as --workdir, or move these away."
        )


def read_config(path: Path) -> ml_collections.ConfigDict:
    """The config in a JSON file of any version, in today's options (see `completed`), locked.

    Raises:
      WorkdirError: it is not a config.
    """
    try:
        content = read_object(path, "config")
        if not content.keys() >= {"data", "model", "training"}:
            raise WorkdirError("it lacks the sections data, model, training")
        return ml_collections.ConfigDict(tuples(completed(content))).lock()
    except (WorkdirError, AttributeError, ValueError, RecursionError) as error:
        # The last three: names that no option can have.
        raise WorkdirError(f"{path} is not a config: {error}") from error


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Reads a JSON file that is there; raises WorkdirError unless it is an object, `what`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{path} is not a {what}: {error}") from error
    if not isinstance(content, dict):
        raise WorkdirError(f"{path} is not a {what}, but {type(content).__name__}")
    return content


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file as a whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        # Its name is not to be on disk before its content is.
        os.fsync(file.fileno())
    os.replace(temporary, path)
