"""The suites; importing them registers them."""

from benchmarks.suites import data, evaluation, replicas, scaling, startup, step  # noqa: F401
