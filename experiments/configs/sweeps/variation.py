"""Finding 4: the more the examples of a class vary, the more ICL and the less IWL."""

from emergent_icl.findings.variation import get_sweep as get_sweep
