"""The table of suites."""

from benchmarks.suites import accelerator, data, evaluation, scaling, startup, step
from benchmarks.suites.compare import Ratio, Suite

AGAINST = {"ours": "ours, ms", "baseline": "baseline, ms"}
SPEEDUP = Ratio("speedup", "speedup", slow="baseline", fast="ours")

SUITES = {
    "data": Suite(data.subjects, "sequences/s", "Sequences a second", data.ROWS, share=0.25),
    "step": Suite(
        step.subjects,
        "ms/step",
        "A training step, batch {config.training.batch_size}",
        AGAINST,
        SPEEDUP,
    ),
    "startup": Suite(
        startup.subjects,
        "s",
        "From launch to the first step, seconds",
        {"cold": "cold compilation cache", "warm": "warm compilation cache"},
        rounds=3,
        share=0,
    ),
    "eval": Suite(
        evaluation.subjects,
        "ms/sequence",
        "Evaluation, a sequence ({config.evaluation.num_sequences:,} of ours at once)",
        AGAINST,
        SPEEDUP,
    ),
    "replicas": Suite(
        step.replicas,
        "ms/step",
        "Replicas in one program, small preset",
        {"1": "1 replica, ms", "8": "8 replicas, ms"},
        Ratio("8_over_1", "a step of 8 over one of 1", slow="8", fast="1"),
    ),
    "scaling": Suite(scaling.subjects, "ms/step", share=0.5),
    "accelerator": Suite(
        accelerator.subjects, "ms/step", "ms a step on an accelerator", accelerator.ROWS
    ),
}
GROUPS = {
    "default": ("data", "step", "startup", "eval"),
    "all": ("data", "step", "startup", "eval", "replicas", "scaling"),
}
