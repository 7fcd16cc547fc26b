"""Stored results of `evaluate`, one file per run, step, and set of options."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emergent_icl.config.configs import has
from emergent_icl.config.identity import differing_options, identity
from emergent_icl.data.task import fewshot_options
from emergent_icl.evaluation.metrics import Results
from emergent_icl.runs.checkpoints import checksum
from emergent_icl.runs.locks import try_lock
from emergent_icl.runs.open import Run
from emergent_icl.runs.workdir import Workdir, WorkdirError, read_object

# Results of all modes are in one file.
_MODES = "evaluation.modes"
# Writing takes milliseconds; another command may be suspended.
_PATIENCE_SECONDS = 60.0


def changed_options(run: Run) -> dict[str, Any]:
    """Options in which an opened run differs from the trained one, {option: value}.

    Excludes the evaluation modes and the locations of data.
    """
    return {
        path: value
        for path, _, value in differing_options(run.trained, run.experiment.config)
        if path != _MODES and not has(path, "per_machine")
    }


def options_text(options: dict[str, Any], separator: str = ", ") -> str:
    """'num_sequences=10000, shots=2' for {'evaluation.num_sequences': 10000, ...}."""
    return separator.join(f"{path.rpartition('.')[2]}={value}" for path, value in options.items())


def path_of(workdir: Workdir, run: Run, replica: str = "") -> Path:
    """The default results file of an opened run."""
    words = (f"step_{run.step}", options_text(changed_options(run), "_"))
    return workdir.evaluations / replica / f"{'_'.join(filter(None, words))}.json"


def read(path: Path) -> dict[str, Any] | None:
    """Content of a results file, None if absent; raises WorkdirError if it is another file."""
    content = read_object(path, "evaluation") if path.exists() else None
    # A summary has evaluations, too.
    if content is not None and not {"evals", "num_sequences"} <= content.keys():
        raise WorkdirError(f"{path} is not an evaluation, and would be overwritten")
    return content


def write(path: Path, run: Run, results: Results, replica: str = "") -> str:
    """Writes results of an opened run; returns which results they replace, if any.

    Results of other modes are kept if config, parameters, data, and options are the same, also
    those that another command writes at the same time.

    Raises:
      WorkdirError: it is another file, another command does not finish writing it, or a result is
        not finite.
      OSError: it cannot be written.
    """
    options, config = changed_options(run), run.experiment.config
    fewshot = fewshot_options(config)
    about = {
        "replica": replica or None,
        "step": run.step,
        "run": {
            "config_name": run.trained.name,
            "identity": identity(run.trained),
            "checksum": checksum((run.params, run.batch_stats)),
            "data": run.experiment.bank.checksum,
        },
        "num_sequences": config.evaluation.num_sequences,
        "shots": fewshot.shots,
        "ways": fewshot.ways,
        "options": options,
    }
    with _locked(path):
        there = read(path)
        differ = [name for name, value in about.items() if there and there.get(name) != value]
        evals = there["evals"] if there and not differ else {}
        for mode, metrics in results.items():
            for metric, estimate in metrics.items():
                if not all(map(math.isfinite, estimate)):
                    raise WorkdirError(f"{metric} in {mode} is {estimate.mean} at step {run.step}")
            evals[mode] = {metric: estimate._asdict() for metric, estimate in metrics.items()}
        Workdir.write_json(path, {**about, "evals": evals})
    if "run" in differ:
        return "of another run"
    return f"with another {', '.join(differ)}" if differ else ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for other commands that write a results file, and keeps them waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The results file itself is replaced, and with it any lock on it.
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = lock.open("ab")
    except PermissionError:  # Created by another user of a shared folder.
        if not lock.exists():
            raise
        file = lock.open("rb")
    with file:
        if not try_lock(file, _PATIENCE_SECONDS):
            raise WorkdirError(
                f"another command is writing {path}; rerun this command once that one has ended"
            )
        yield
