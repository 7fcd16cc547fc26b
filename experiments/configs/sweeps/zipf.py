"""Finding 5: at a Zipf exponent about 1, ICL and IWL coexist in one model."""

from emergent_icl.findings.zipf import get_sweep as get_sweep
