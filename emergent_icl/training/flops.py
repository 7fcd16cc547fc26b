"""Operations of a function, counted on its jaxpr.

XLA's own cost analysis counts the body of a loop once, however often it runs, which loses
most of a scanned stack of layers or of a recurrent model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of one call.

    Matrix products and convolutions count two for each multiplication, products with the
    padding of a convolution included and with the zeros of a dilated one excluded;
    everything else counts one for each number that it yields. Loops of unknown length
    count once, branches as the most expensive of them.

    Args:
      function: of arrays.
      *arguments: arrays, or their shapes.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inner_jaxprs(equation)]
    name, parameters = equation.primitive.name, equation.params
    if inner:
        times = parameters["length"] if name == "scan" else 1
        return max(inner) if name == "cond" else times * sum(inner)
    size = sum(math.prod(out.aval.shape) for out in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = parameters["dimension_numbers"].rhs_spec[0]
        products = math.prod(kernel) // kernel[features]
        return 2 * size * products // math.prod(parameters["lhs_dilation"])
    return size


def _inner_jaxprs(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in equation.params.values():
        for entry in value if isinstance(value, tuple | list) else (value,):
            if isinstance(entry, core.ClosedJaxpr):
                yield entry.jaxpr
            elif isinstance(entry, core.Jaxpr):
                yield entry
