"""Finding 3: the more labels a class has ("dynamic meanings"), the more ICL."""

from emergent_icl.findings.multiplicity import get_sweep as get_sweep
