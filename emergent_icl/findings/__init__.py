"""The paper's sweeps, as data: one file a finding. `get_sweep(preset)` gives a Sweep.

Each file says what is claimed, and by which statistics, before anything is run. To run one finding:

    python -m experiments.sweep --sweep=experiments/configs/sweeps/NAME.py:PRESET --workdir=DIR
"""

FINDINGS = (
    "burstiness", "classes", "multiplicity", "variation", "zipf", "architecture", "transience",
)  # fmt: skip
# Sweeps to start from that are no findings of the paper.
EXAMPLES = ("map",)
# 'one-split' is what 'laptop' was before each replicate had its own class split.
PRESETS = ("laptop", "paper", "one-split")
