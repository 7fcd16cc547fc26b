"""Finding 2: the more (and therefore rarer) classes, the more ICL and the less IWL."""

from emergent_icl.findings.classes import get_sweep as get_sweep
