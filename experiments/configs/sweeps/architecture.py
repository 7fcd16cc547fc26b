"""Finding 6: a transformer learns in context; recurrent models do not, however they are tuned."""

from emergent_icl.findings.architecture import get_sweep as get_sweep
