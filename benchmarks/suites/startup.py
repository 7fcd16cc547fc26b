"""From launch to the first step, in processes of their own: with and without a compiled cache."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from benchmarks.processes import train_to_first_step
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.timing import Rival
from emergent_icl.data.sources.source import DataUnavailableError, load_bank
from emergent_icl.presets import omniglot

CONFIG = ("--config=experiments/configs/omniglot.py:paper", "--config.training.num_steps=2")
# Where Omniglot is missing: characters of the same size, fewer drawings of each.
STAND_IN = {
    "data.source": "glyphs",
    "data.glyphs.num_classes": 1623,
    "data.glyphs.num_exemplars": 1,
}


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Launches of the paper preset: 'cold' has an empty compilation cache, 'warm' a filled one."""
    if settings.small is None:
        found.note("startup is that of the paper preset, whatever --config")
    flags = [*CONFIG, *_data_flags(found)]
    settings.progress("launches with an empty cache, and with a filled one")
    with tempfile.TemporaryDirectory() as folder:
        cache, runs = Path(folder) / "compiled", itertools.count()

        def warm(count: int) -> None:
            for _ in range(count):
                workdir = f"--workdir={folder}/run_{next(runs)}"
                train_to_first_step([*flags, workdir], {"JAX_COMPILATION_CACHE_DIR": str(cache)})

        def cold(count: int) -> None:
            for _ in range(count):
                shutil.rmtree(cache, ignore_errors=True)
                warm(1)

        # A warm launch finds what the cold one before it has compiled.
        rivals = {"cold": Rival(cold), "warm": Rival(warm)}
        yield Subject("paper preset", "startup_paper_{}", rivals)
    for name in rivals:
        found.figures[f"startup_paper_{name}_s"] = found.by_name[f"startup_paper_{name}"].median


def _data_flags(found: Measurements) -> list[str]:
    """Overrides where Omniglot is missing; whatever is shown is ready in the user's cache."""
    config = omniglot.get_config("paper").unlock()
    try:
        load_bank(config.data)
    except DataUnavailableError:
        found.note("startup: glyphs in place of omniglot")
        config.update_from_flattened_dict(STAND_IN)
        load_bank(config.data)
        return [f"--config.{path}={value}" for path, value in STAND_IN.items()]
    return []
