"""Work directories, which hold a run's config, metrics, checkpoints, and figures."""

import contextlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

# Registers derived options, which are needed to compare configs.
import emergent_icl.training.replicas  # noqa: F401
from emergent_icl.config.configs import is_resumable, place, tuples
from emergent_icl.config.identity import completed, differing_options, kept, lacking
from emergent_icl.config.registry import SCHEDULES
from emergent_icl.runs.locks import try_lock

# Files that launchers, `inspect_data`, and a killed start leave before a run exists.
_BEFORE_A_RUN = ("train.log", "job.json", "inspection.json", "figures", "*.tmp")
# A single letter is a Windows drive. A Path keeps only one of the two slashes.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class WorkdirError(RuntimeError):
    """The work directory cannot be used by the command."""


class DivergedError(WorkdirError):
    """The requested replica diverged: it cannot be opened."""


class Workdir:
    """Paths and small files of one run; raises WorkdirError for an invalid path."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _local_folder(path)
        self.config = self.path / "config.json"
        self.data = self.path / "data.json"  # see recorded_data.py
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "summary.json"  # once the run is complete, or has diverged
        self.lock = self.path / ".lock"  # names the command that trains here
        # Output and job of a run that a sweep started.
        self.log = self.path / "train.log"
        self.job = self.path / "job.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.figures = self.path / "figures"
        self.evaluations = self.path / "evaluations"  # see `evaluations.write`
        self.learning_curves = self.figures / "learning_curves.png"

    @staticmethod
    def write_json(path: Path, content: Any) -> None:
        """Writes a JSON file atomically."""
        # NaN is not JSON; no file is better than an unreadable one.
        write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """The content of summary.json; None if it is missing or damaged."""
        try:
            summary = read_object(self.summary, "summary")
        except (WorkdirError, OSError):
            return None
        return summary if isinstance(summary.get("step"), int) else None

    def read_config(self) -> ConfigDict:
        """The run's config in today's options (see `completed`), locked.

        Raises:
          WorkdirError: it is missing or damaged.
        """
        if not self.config.exists():
            raise WorkdirError(f"{self.path} is not the work directory of a run: no config.json")
        try:
            return read_config(self.config)
        except WorkdirError as error:
            raise WorkdirError(
                f"{error}\nWithout that file, the run resumes with the config of the command; "
                "checkpoints of another config are refused."
            ) from error

    def resumed(self, config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
        """The config with which a command resumes the run in this folder, if any; see `kept`.

        Raises:
          WorkdirError: config.json is damaged.
        """
        if not self.config.exists():
            return config, {}
        self.read_config()  # Explains damage.
        return kept(read_object(self.config, "config"), config)

    def check(self, config: ConfigDict) -> None:
        """Checks that the run in this folder, if any, has the same config; writes nothing.

        Raises:
          WorkdirError: names the options that differ; or see `check_free`.
        """
        self.check_free()
        if differences := "\n  ".join(self.differences(config)):
            raise WorkdirError(
                f"{self.path} holds a run with another config:\n  {differences}\n"
                "Use another --workdir, or the same config to resume."
            )

    def check_free(self) -> None:
        """Raises WorkdirError if the folder contains other files but no run."""
        if not self.config.exists() and not self.holds_checkpoints():
            check_nothing_foreign(self.path, _BEFORE_A_RUN)

    def holds_checkpoints(self) -> bool:
        """Whether any checkpoint was saved here."""
        steps = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return any(path.name.isdecimal() for path in steps)

    def differences(self, config: ConfigDict) -> list[str]:
        """Options that differ from those of the run in this folder, if any, but must not."""
        if not self.config.exists():
            return []
        config, _ = self.resumed(config)
        # If learning rates depend on the number of steps, a longer run is another run.
        is_fixed = SCHEDULES.about(config.training.optimizer.schedule).reads_num_steps
        return [
            f"{path}: {old!r} there, {new!r} here"
            for path, old, new in differing_options(self.read_config(), config)
            if not is_resumable(path) or (is_fixed and path == "training.num_steps")
        ]

    def make(self) -> None:
        """Creates the folder if needed; raises WorkdirError if it is not writable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.path, os.W_OK)
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be created: {error}") from error
        if not writable:
            raise WorkdirError(f"{self.path} cannot be written")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other commands from training here; raises WorkdirError if one already does."""
        try:
            file = self.lock.open("a+", encoding="utf-8")
        except PermissionError:  # Created by another user of a shared folder.
            file = self.lock.open(encoding="utf-8")
        with file:
            if not try_lock(file):
                who = self.lock.read_text(encoding="utf-8").strip() or "another command"
                raise WorkdirError(f"{self.path} is in use by {who}")
            if file.writable():
                # The name is optional: on a full disk, the lock is held without it.
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), 0)
                    who = f"process {os.getpid()} on {platform.node()}\n"
                    os.write(file.fileno(), who.encode())
            yield

    def claim(self, config: ConfigDict) -> None:
        """Writes the config, which makes the folder this run's.

        Leaves out options that are newer than the run, so that the same command resumes it again.
        """
        tree = tuples(config.to_dict())
        before = lacking(read_object(self.config, "config")) if self.config.exists() else {}
        for path, value in before.items():
            section, name = place(tree, path)
            if section and name in section and section[name] == value:
                del section[name]
        self.write_json(self.config, tree)


def _local_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute path with ~ expanded; WorkdirError if it is empty, a URL, or a pattern."""
    text = os.path.expanduser(path)
    if not text.strip():
        raise WorkdirError("the path of the work directory is empty (the current folder is '.')")
    if _URL.match(text):
        raise WorkdirError(f"'{text}' is a URL: work directories are local or mounted folders")
    if text.startswith("~"):
        raise WorkdirError(f"there is no home folder '{text.split('/')[0]}' for {text}")
    path = Path(text).absolute()
    # Orbax searches for parts of a checkpoint by a pattern, and would leave them out.
    if escape(str(path)) != str(path):
        raise WorkdirError(f"{path}: checkpoints cannot be stored below a path with *, ?, or [")
    return path


def check_nothing_foreign(folder: Path, own: Sequence[str]) -> None:
    """Raises WorkdirError if a folder contains files other than hidden ones and its `own`.

    `own` are names or patterns such as '*.tmp'. The folder need not exist.
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
            f"{folder} contains files of other programs, which might be overwritten: "
            f"{', '.join(foreign[:3])}{more}\n"
            "Use a new or empty folder as --workdir, or move these files."
        )


def read_config(path: Path) -> ConfigDict:
    """The config in a JSON file of any version, in today's options (see `completed`), locked.

    Raises:
      WorkdirError: the file is not a config.
    """
    try:
        content = read_object(path, "config")
        if not content.keys() >= {"data", "model", "training"}:
            raise WorkdirError("it lacks the sections data, model, training")
        return ConfigDict(tuples(completed(content))).lock()
    except (WorkdirError, AttributeError, ValueError, RecursionError) as error:
        # The last three: names that are invalid for options.
        raise WorkdirError(f"{path} is not a config: {error}") from error


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Reads an existing JSON file; raises WorkdirError unless it is an object, called `what`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{path} is not a {what}: {error}") from error
    if not isinstance(content, dict):
        raise WorkdirError(f"{path} is not a {what}, but {type(content).__name__}")
    return content


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically; creates its folder. Leaves nothing behind if it fails.

    Of several writers at the same time, the last one's content remains.

    Raises:
      OSError: the file, which it names, cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            _remove_leftovers(path, os.fstat(file.fileno()).st_mtime)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            # The content must be on disk before the name.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _remove_leftovers(path: Path, now: float) -> None:
    """Removes files of `write_whole` that were left by a kill at least an hour before `now`."""
    for one in path.parent.glob(f"{escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):
            # Both times are from the file system: a jump of this machine's clock has no effect.
            if now - one.stat().st_mtime > 3600:
                one.unlink()
