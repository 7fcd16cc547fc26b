"""The paper's sweeps, as data: one file a finding. `get_sweep(preset)` gives a Sweep.

Each file says what is claimed, and by which statistics, before anything is run. One of them alone:

    python -m experiments.sweep --sweep=experiments/configs/sweeps/NAME.py:PRESET \
        --workdir=runs/sweeps
"""

FINDINGS = (
    "burstiness", "classes", "multiplicity", "variation", "zipf", "architecture", "transience",
)  # fmt: skip
PRESETS = ("laptop", "paper")
