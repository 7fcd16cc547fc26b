"""Results of a run that was evaluated anew, in its folder; a file holds those of one run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emergent_icl.config.configs import has
from emergent_icl.config.identity import differing_options, identity
from emergent_icl.data.task import fewshot_options
from emergent_icl.evaluation.metrics import Results
from emergent_icl.runs.checkpoints import checksum
from emergent_icl.runs.open import Run
from emergent_icl.runs.workdir import Workdir, read_object

# Results of other modes stand in the same file.
_MODES = "evaluation.modes"


def changed_options(run: Run) -> dict[str, Any]:
    """In which options the run was opened otherwise than it was trained: {option: value}.

    Without the modes, and where a machine has its data.
    """
    return {
        path: value
        for path, _, value in differing_options(run.trained, run.experiment.config)
        if path != _MODES and not has(path, "per_machine")
    }


def options_text(options: dict[str, Any], separator: str = ", ") -> str:
    """'num_sequences=10000, shots=2' for {'evaluation.num_sequences': 10000, ...}."""
    return separator.join(f"{path.rpartition('.')[2]}={value}" for path, value in options.items())


def write(workdir: Workdir, run: Run, results: Results, replica: str = "") -> tuple[Path, bool]:
    """Writes results of an opened run below its folder; those of other modes there are kept.

    Unless they are of another config, parameters, data or options. Returns the file, and whether
    it replaces results of another run.
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
    name = "_".join(filter(None, (f"step_{run.step}", options_text(options, "_"))))
    path = workdir.evaluations / replica / f"{name}.json"
    there = read_object(path, "evaluation") if path.exists() else None
    is_own = there and all(there.get(name) == value for name, value in about.items())
    evals = there.get("evals", {}) if there and is_own else {}
    for mode, metrics in results.items():
        evals[mode] = {metric: estimate._asdict() for metric, estimate in metrics.items()}
    workdir.write_json(path, {**about, "evals": evals})
    return path, there is not None and not is_own
