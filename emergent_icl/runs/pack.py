"""Packed runs: one file that holds what a run needs to be opened or resumed elsewhere."""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten, is_option, tuples, with_options
from emergent_icl.config.identity import completed
from emergent_icl.config.options import known
from emergent_icl.runs.checkpoints import CheckpointError, CheckpointStore
from emergent_icl.runs.records import PACKAGES, read_metrics, versions
from emergent_icl.runs.workdir import Workdir, WorkdirError, write_whole
from emergent_icl.training.optimizers import Optimizer, make_optimizer
from emergent_icl.training.settings import pinned
from emergent_icl.training.update import TrainState

SUFFIX = ".icl.zip"
FORMAT, FORMAT_VERSION = "emergent_icl.run", 1
_MANIFEST = "manifest.json"
# Names that a packed run may hold; no part may be '..'.
_NAME = re.compile(
    r"(config|data|summary)\.json|metrics\.jsonl|checkpoints/\d+(/(?!\.\.?(/|$))[^/\\]+)+"
)
# A whole checkpoint always gives the same bytes.
_DATE = (2020, 1, 1, 0, 0, 0)


class PackError(WorkdirError):
    """A file is not an intact packed run, or has no place to go."""


class Packed(NamedTuple):
    """What was packed or unpacked."""

    step: int  # of its checkpoint
    num_bytes: int  # of the packed file
    versions: dict[str, str]  # of the packages that packed it
    weights_only: bool  # It can be opened, but not resumed.


@pinned()
def pack(
    workdir: Workdir, path: Path, step: int | None = None, weights_only: bool = False
) -> Packed:
    """Writes the config, a checkpoint (None: the newest), and the metrics up to it to one file.

    The run may be training. The data are not included, only their checksums. With `weights_only`,
    the optimizer's state is not included either: the run can be opened, but not resumed. A file
    that holds the same run is replaced, unless it is ahead, or only the file could be resumed.

    Raises:
      WorkdirError: there is no run, no such checkpoint, or it is damaged or from another config.
      PackError: `path` is a folder, another file, or a file that is not replaced.
      OSError: the file cannot be written.
    """
    config = workdir.read_config()
    replaced, optimizer = _replaced(path, workdir), _optimizer(workdir, config)
    with CheckpointStore(workdir.checkpoints, config=_identifiable(config)) as store:

        def read(one: int) -> tuple[dict[str, bytes], bool]:
            if not weights_only:
                # Before the check: if the run removes a file in the meantime, the check fails.
                files = _checkpoint_files(workdir, one)
                _check_resumable(store, optimizer, one)
                return files, store.holds_weights_only(one)
            with tempfile.TemporaryDirectory() as folder:
                copy = Workdir(folder)
                store.copy_weights(one, copy.checkpoints)
                return _checkpoint_files(copy, one), True

        step, (files, weights_only) = store.read(step, read)
    if replaced and (loss := _lost(replaced, step, weights_only)):
        raise PackError(f"{path} {loss}: choose another name with --output")
    lines = [line for line in read_metrics(workdir.metrics) if line["step"] <= step]
    files[workdir.metrics.name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    summary = workdir.read_summary() or {}
    kept = [workdir.config, workdir.data, *[workdir.summary] * (summary.get("step") == step)]
    files |= {one.name: one.read_bytes() for one in kept if one.exists()}
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "step": step,
        "weights_only": weights_only,
        "versions": versions(("emergent-icl", *PACKAGES)),
        "sha256": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    content = _zipped({_MANIFEST: json.dumps(about, indent=2).encode(), **files})
    write_whole(path, content)
    return Packed(step, len(content), about["versions"], weights_only)


def unpack(path: Path, workdir: Workdir) -> Packed:
    """Makes a packed run the run of a new or empty folder.

    `load_run` opens it there; `train` resumes it, unless it holds weights only.

    Raises:
      PackError: the file is damaged or something else, or the folder is not empty. Nothing was
        changed.
      OSError: the file cannot be read, or the folder cannot be written.
    """
    if workdir.path.exists() and (not workdir.path.is_dir() or any(workdir.path.iterdir())):
        raise PackError(f"{workdir.path} must be a new or empty folder to unpack a run there")
    files, about = _read(path)
    target = workdir.path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    near = target if target.exists() else target.parent
    hidden = {"prefix": f".{target.name}.", "suffix": ".unpacking"}
    with tempfile.TemporaryDirectory(dir=near, ignore_cleanup_errors=True, **hidden) as folder:
        whole = Path(folder) / "run"
        for name, content in files.items():
            write_whole(whole / name, content)
        # The folder becomes a run at once: by its own name, or by its config.
        if near == target:
            for one in sorted(whole.iterdir(), key=lambda one: one.name == workdir.config.name):
                os.replace(one, target / one.name)
        else:
            os.replace(whole, target)
    # Earlier versions packed whole checkpoints only.
    weights_only = about.get("weights_only", False)
    return Packed(about["step"], path.stat().st_size, about["versions"], weights_only)


def _replaced(path: Path, workdir: Workdir) -> dict[str, Any] | None:
    """The manifest of the file that would be replaced; PackError unless it holds the same run."""
    if path.is_dir():
        raise PackError(f"{path} is a folder: a run is packed into a file")
    if not path.exists():
        return None
    try:
        files, about = _read(path)
        config = ConfigDict(tuples(completed(json.loads(files[workdir.config.name]))))
        is_other = bool(workdir.differences(config))
    except (PackError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackError(f"{path} would be overwritten: {error}") from error
    data = workdir.data.read_bytes() if workdir.data.exists() else None
    # Runs of version 0.1.0 recorded no data until they were resumed.
    if is_other or files.get(workdir.data.name) not in (None, data):
        raise PackError(
            f"{path} holds another run (another config or other data): choose another name with "
            "--output"
        )
    return about


def _lost(replaced: dict[str, Any], step: int, weights_only: bool) -> str:
    """What would be lost with a file of the same run, if anything."""
    if weights_only and not replaced.get("weights_only", False):
        return "can be resumed, and weights alone cannot"
    if replaced["step"] > step:
        return f"holds step {replaced['step']} of this run, and would be replaced by step {step}"
    return ""


def _identifiable(config: ConfigDict) -> ConfigDict | None:
    """The config, or None if an extension that is not imported declares some of its options."""
    # Without the extension, it is unknown which of them are part of the identity.
    is_known = all(is_option(path, known()) for path in flatten(config.to_dict()))
    return config if is_known else None


def _optimizer(workdir: Workdir, config: ConfigDict) -> Optimizer:
    """The optimizer of a run, at a constant learning rate; raises PackError if it is unknown."""
    try:
        # The schedule may be an extension's; the optimizer's state does not depend on it.
        constant = with_options(config, {"training.optimizer.schedule": "constant"})
        return make_optimizer(constant.training)
    except (AttributeError, KeyError, ValueError) as error:
        raise PackError(f"{workdir.config} names no optimizer of this optax: {error}") from error


def _check_resumable(store: CheckpointStore, optimizer: Optimizer, step: int) -> None:
    """Reads a checkpoint as resuming does, but without the run's data."""
    params, batch_stats, _ = store.restore_weights(step)
    count = len(jax.tree.leaves(params)[0])
    step_and_key = np.empty(count, np.int32), np.empty((count, 2), np.uint32)
    opt_state = jax.eval_shape(jax.vmap(optimizer.init), params)
    store.restore(step, TrainState(*step_and_key, params, batch_stats, opt_state))


def _checkpoint_files(workdir: Workdir, step: int) -> dict[str, bytes]:
    folder = workdir.checkpoints / str(step)
    try:
        files = sorted(one for one in folder.rglob("*") if one.is_file())
        return {one.relative_to(workdir.path).as_posix(): one.read_bytes() for one in files}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error


def _zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, one in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), one, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _read(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a packed run and its manifest; raises PackError unless all are intact."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(_MANIFEST))
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
            if about["version"] != FORMAT_VERSION:
                raise PackError(
                    f"{path} has version {about['version']} of the format; this program reads "
                    f"version {FORMAT_VERSION}"
                )
            checksums = about["sha256"]
            if strange := [name for name in checksums if not _NAME.fullmatch(name)]:
                raise ValueError(f"it holds {strange[0]}")
            files = {name: archive.read(name) for name in checksums}
        damaged = [name for name, content in files.items() if _sha256(content) != checksums[name]]
    except (OSError, PackError):
        raise
    except Exception as error:  # A damaged archive can raise nearly anything.
        raise PackError(f"{path} is not an intact packed run: {error}") from error
    if damaged:
        raise PackError(f"{path} is damaged: the checksum of {damaged[0]} does not match")
    return files, about


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
