"""Haiku modules: encoders, tokens, sequence models, and the network made of them.

Shape letters, here and everywhere else:
  B sequences in a batch    S examples in a sequence (the query is the last)
  T tokens in a sequence    D embedding width         L labels
  N examples, flattened     H, W image height, width  C channels
  A attention heads         K steps per call          R replicas
"""

import sys

if sys.flags.optimize:
    raise ImportError(
        "Haiku misnames parameters when assertions are off: run Python without -O and "
        "without PYTHONOPTIMIZE"
    )

# Imported to fill the registries.
from emergent_icl.models import encoders, recurrent, transformer

__all__ = ["encoders", "recurrent", "transformer"]
