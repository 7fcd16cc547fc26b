"""From launch to the first step, in processes of their own: with and without a compiled cache."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import timing
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.processes import seconds_to_first_step
from emergent_icl.data.sources.source import DataUnavailableError, load_bank
from emergent_icl.presets import omniglot

CONFIG = ("--config=experiments/configs/omniglot.py:paper", "--config.training.num_steps=2")
# Where Omniglot is missing: characters of the same size, fewer drawings of each.
STAND_IN = {
    "data.source": "glyphs",
    "data.glyphs.num_classes": 1623,
    "data.glyphs.num_exemplars": 1,
}
COLD_RUNS, WARM_RUNS = 2, 3


@SUITES.register("startup")
def startup(settings: Settings) -> Findings:
    """Launches the paper preset; 'cold' has an empty compilation cache, 'warm' a filled one."""
    findings = Findings()
    if settings.small is None:
        findings.notes.append("startup is that of the paper preset, whatever --config")
    words = [*CONFIG, *_data_words(findings)]
    cold, warm = [], []
    settings.progress(f"{COLD_RUNS} launches with an empty cache, {WARM_RUNS} with a filled one")
    for _ in range(COLD_RUNS):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_launch(words, folder, 0))
            # The last cache serves the warm runs, too.
            count = WARM_RUNS if len(cold) == COLD_RUNS else 0
            warm += [_launch(words, folder, 1 + run) for run in range(count)]
    rows = {}
    for name, samples in (("cold", cold), ("warm", warm)):
        measured = timing.summarise(f"startup_paper_{name}", samples, "s")
        findings.measurements.append(measured)
        findings.figures[f"startup_paper_{name}_s"] = measured.median
        rows[f"{name} compilation cache"] = (
            f"{measured.median:.1f} s ({measured.min:.1f} to {measured.max:.1f})"
        )
    title = "From launch to the first step, paper preset"
    findings.tables.append(Table(title, list(rows), {"": list(rows.values())}))
    return findings


def _launch(words: list[str], folder: str, run: int) -> float:
    cache = {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "compiled")}
    return seconds_to_first_step([*words, f"--workdir={folder}/run_{run}"], cache)


def _data_words(findings: Findings) -> list[str]:
    """Overrides where Omniglot is missing; whatever is shown is ready in the user's cache."""
    config = omniglot.get_config("paper").unlock()
    try:
        load_bank(config.data)
    except DataUnavailableError:
        findings.notes.append("startup: glyphs in place of omniglot")
        config.update_from_flattened_dict(STAND_IN)
        load_bank(config.data)
        return [f"--config.{path}={value}" for path, value in STAND_IN.items()]
    return []
