"""The paper's sweeps, as data: one file a finding. `get_sweep(preset)` gives a Sweep.

Each file says what is claimed, and by which statistics, before anything is run.
"""

FINDINGS = (
    "burstiness",
    "classes",
    "multiplicity",
    "variation",
    "zipf",
    "architecture",
    "transience",
)
PRESETS = ("laptop", "paper")
