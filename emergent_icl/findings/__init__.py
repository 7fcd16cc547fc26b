"""The paper's sweeps as data: one file per finding, with `get_sweep(preset)`.

Each file states what is claimed, and by which statistics, before anything is run. To run one:

    emergent-icl sweep --sweep=NAME:PRESET --workdir=DIR
"""

FINDINGS = (
    "burstiness", "classes", "multiplicity", "variation", "zipf", "architecture", "transience",
)  # fmt: skip
# Examples that are not findings of the paper.
EXAMPLES = ("map",)
# 'one-split' is what 'laptop' was before each replicate had its own class split.
PRESETS = ("laptop", "paper", "one-split")
