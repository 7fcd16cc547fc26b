"""The suites; importing them registers them."""

from experiments.benchmarks.suites import (  # noqa: F401
    data,
    evaluation,
    replicas,
    scaling,
    startup,
    step,
)
