"""Mixed precision: low-precision arithmetic on float32 parameters."""

from __future__ import annotations

import haiku as hk
import jmp

from emergent_icl.models.normalisation import is_normalisation

PRECISIONS = ("float32", "bfloat16")


def make_policy(precision: str) -> jmp.Policy:
    """float32 parameters and outputs; `precision` in between."""
    return jmp.get_policy(f"params=float32,compute={precision},output=float32")


def cast_parameters(policy: jmp.Policy, params: hk.Params) -> hk.Params:
    """Parameters as the arithmetic takes them; those of normalisation stay float32."""
    norms, others = hk.data_structures.partition(
        lambda module, name, value: is_normalisation(module), params
    )
    return hk.data_structures.merge(norms, policy.cast_to_compute(others))
