"""Reproduces every finding of the paper: runs what is missing, then judges and draws.

python -m experiments.reproduce --preset=laptop|paper --workdir=DIR
    [--findings=burstiness,classes,...] [--seeds=5] [--dataset=omniglot|glyphs] [--plan]

Ctrl-C and SIGTERM save every run; the same command goes on.
"""

from __future__ import annotations

from experiments.signals import StopSignals

STOP_SIGNALS = StopSignals()
if __name__ == "__main__":
    STOP_SIGNALS.install()

from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from absl import app, flags  # noqa: E402

from emergent_icl.sweeps.sweep import Sweep, SweepError, load_sweep  # noqa: E402
from experiments import console, sweep_launcher  # noqa: E402
from experiments.configs import sweeps as files  # noqa: E402
from experiments.executor import PlaceError  # noqa: E402

DATASETS = ("omniglot", "glyphs")

_PRESET = flags.DEFINE_enum("preset", "laptop", files.PRESETS, "Scale of data and models.")
_FINDINGS = flags.DEFINE_list("findings", list(files.FINDINGS), "Which findings, with commas.")
_DATASET = flags.DEFINE_enum("dataset", "omniglot", DATASETS, "Real or procedural characters.")


def main(argv: Sequence[str]) -> None:
    """Parses nothing itself: findings in, exit code out."""
    console.refuse_leftovers(argv)
    with console.clear_errors(SweepError, PlaceError):
        sweep_launcher.launch(_sweeps(), {"preset": _PRESET.value}, STOP_SIGNALS.poll)


def _sweeps() -> list[Sweep]:
    unknown = [name for name in _FINDINGS.value if name not in files.FINDINGS]
    if unknown:
        allowed = ", ".join(files.FINDINGS)
        raise SweepError(f"--findings: {', '.join(unknown)} is unknown (allowed: {allowed})")
    folder = Path(files.__file__).parent
    sweeps = [load_sweep(f"{folder / name}.py:{_PRESET.value}") for name in _FINDINGS.value]
    return [one.with_base_options({"data.source": _DATASET.value}) for one in sweeps]


if __name__ == "__main__":
    app.run(main, flags_parser=console.parse_flags)
