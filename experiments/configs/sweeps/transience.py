"""Beyond the paper: ICL fades with longer training (Singh et al. 2023)."""

from emergent_icl.findings.transience import get_sweep as get_sweep
