"""Reproduce every finding of the paper: run all missing experiments, judge, and draw.

python -m experiments.reproduce --preset=laptop|paper|one-split --workdir=DIR
    [--findings=burstiness,classes,...] [--seeds=8] [--dataset=omniglot|glyphs]
    [--register | --plan | --dry-run | --status]

--register records the claims before any run. Ctrl-C and SIGTERM save every run; rerun the command
to resume.
"""

from collections.abc import Sequence

from absl import flags

from emergent_icl import findings as files
from emergent_icl.cli import sweeping
from emergent_icl.sweeps.spec import Sweep, SweepError, load_sweep

_PRESET = flags.DEFINE_enum("preset", "laptop", files.PRESETS, "Scale of data and models.")
_FINDINGS = flags.DEFINE_list("findings", list(files.FINDINGS), "Comma-separated findings.")
_DATASET = flags.DEFINE_enum(
    "dataset", "omniglot", ["omniglot", "glyphs"], "Real or procedural characters."
)


def main(argv: Sequence[str]) -> None:
    """Runs the sweeps of the findings."""
    sweeping.launch(argv, _sweeps, _PRESET.value)


def _sweeps() -> list[Sweep]:
    if not _FINDINGS.value:
        raise SweepError(f"--findings must name at least one of {', '.join(files.FINDINGS)}")
    unknown = [name for name in _FINDINGS.value if name not in files.FINDINGS]
    if unknown:
        allowed = ", ".join(files.FINDINGS)
        raise SweepError(f"--findings: {', '.join(unknown)} is unknown (allowed: {allowed})")
    sweeps = [
        load_sweep(f"{name}:{_PRESET.value}", files.__name__, files.FINDINGS)
        for name in _FINDINGS.value
    ]
    return [one.with_base_options({"data.source": _DATASET.value}) for one in sweeps]
