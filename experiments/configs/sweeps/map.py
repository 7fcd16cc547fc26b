"""A map of classes by burstiness."""

from emergent_icl.findings.map import get_sweep as get_sweep
