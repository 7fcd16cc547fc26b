"""Finding 1: the more sequences are bursty, the more ICL and the less IWL."""

from emergent_icl.findings.burstiness import get_sweep as get_sweep
