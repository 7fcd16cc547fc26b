"""Optax optimizers by name, and learning-rate schedules."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from emergent_icl.config.configs import OPTIMIZER_OPTIONS
from emergent_icl.config.registry import SCHEDULES, nearest_name
from emergent_icl.config.rules import BOOLEAN, Rule, number
from emergent_icl.data.bank import Array, Scalar
from emergent_icl.models.network import Params

# Arguments that have their own options in training.optimizer.
_OURS = {"learning_rate", "weight_decay"}
# The learning rate is part of their initial state, so no schedule can change it.
_RATE_IS_STATE = {"rprop", "scale_by_rprop"}


class Hyper(NamedTuple):
    """Traced settings, which may differ between replicas; float [] except the last."""

    learning_rate: Scalar  # peak of the schedule
    warmup_steps: Scalar  # of the linear warm-up
    weight_decay: Scalar  # decoupled
    noise_scale: Scalar  # see data.noise_scale
    # int []: number of labels in use, others are masked; None: all
    used_labels: Scalar | None = None


def hyper_from_config(config: ConfigDict, used_labels: int | None = None) -> Hyper:
    """The traced settings of a config; for `used_labels`, see Hyper."""
    values, number = config.training.optimizer, jnp.result_type(float).type
    return Hyper(
        number(values.learning_rate),
        number(values.warmup_steps),
        number(values.weight_decay),
        number(config.data.noise_scale),
        None if used_labels is None else np.int32(used_labels),
    )


@SCHEDULES.register("paper", reads_num_steps=False, needs_warmup=True)
def paper(step: jax.Array, hyper: Hyper, num_steps: int) -> Array:
    """Linear warm-up, then peak * sqrt(warmup / step) (paper section 2.2)."""
    warmup = jnp.maximum(hyper.warmup_steps, 1.0)
    return hyper.learning_rate * jnp.minimum(step / warmup, jnp.sqrt(warmup / step))


@SCHEDULES.register("constant", reads_num_steps=False)
def constant(step: jax.Array, hyper: Hyper, num_steps: int) -> Array:
    """Linear warm-up, then the peak."""
    return hyper.learning_rate * _warmup(step, hyper)


@SCHEDULES.register("cosine")
def cosine(step: jax.Array, hyper: Hyper, num_steps: int) -> Array:
    """Linear warm-up, then half a cosine from the peak to 0 at the last update."""
    remaining = jnp.maximum(num_steps - hyper.warmup_steps, 1.0)
    progress = jnp.clip((step - hyper.warmup_steps) / remaining, 0.0, 1.0)
    return hyper.learning_rate * _warmup(step, hyper) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _warmup(step: jax.Array, hyper: Hyper) -> Array:
    return jnp.minimum(step / jnp.maximum(hyper.warmup_steps, 1.0), 1.0)


class Optimizer(NamedTuple):
    """An optimizer with traced settings; `step` counts previous updates."""

    init: Callable[[Params], Any]  # params -> opt_state
    # (gradients, opt_state, params, hyper, step) -> (updates, opt_state)
    update: Callable[[Params, Any, Params, Hyper, Array], tuple[Params, Any]]
    learning_rate: Callable[[Hyper, Array], Array]  # (hyper, step) -> rate


def make_optimizer(training: ConfigDict) -> Optimizer:
    """Builds the optimizer of `config.training`.

    Gradients are clipped by their global norm, then preconditioned. Weights decay by learning rate
    * weight decay, decoupled from the gradient as in AdamW.

    Raises:
      ValueError: optax has no such optimizer, or it does not accept the options.
    """
    settings = training.optimizer
    if problems := list(_argument_problems(settings)):
        raise ValueError("; ".join(problems))
    factory, schedule = getattr(optax, settings.name), SCHEDULES[settings.schedule]
    # Decay is decoupled for all optimizers; disable their own.
    undecayed = dict.fromkeys({"weight_decay"} & _optimizers()[settings.name].keys(), 0.0)

    def learning_rate(hyper: Hyper, step: Array) -> Array:
        return schedule(jnp.asarray(step + 1, jnp.result_type(float)), hyper, training.num_steps)

    def transformation(rate: Array | float, decay: Any) -> Any:
        # Built in every trace, so that its numbers can be traced values.
        clips = settings.max_grad_norm > 0
        return optax.chain(
            optax.clip_by_global_norm(settings.max_grad_norm) if clips else optax.identity(),
            factory(learning_rate=rate, **settings.options, **undecayed),
            optax.add_decayed_weights(-rate * decay, mask=decayed),
        )

    def update(
        gradients: Params, opt_state: Any, params: Params, hyper: Hyper, step: Array
    ) -> tuple[Params, Any]:
        rate = learning_rate(hyper, step)
        return transformation(rate, hyper.weight_decay).update(gradients, opt_state, params)

    return Optimizer(transformation(0.0, 0.0).init, update, learning_rate)


def optimizer_problems(training: ConfigDict) -> Iterator[str]:
    """Problems of the optimizer of `config.training`; traces one update."""
    problems = list(_argument_problems(training.optimizer))
    yield from problems
    name = training.optimizer.name
    if not problems and (reason := _unusable(training)):
        yield f"training.optimizer.name = '{name}': optax.{name} cannot be used here: {reason}"


def _unusable(training: ConfigDict) -> str:
    """Why an existing optimizer cannot be used; '' if it can."""
    if drawn := {"key", "seed"} & _optimizers()[training.optimizer.name].keys():
        return f"it draws its own random numbers ({', '.join(sorted(drawn))})"
    if training.optimizer.name in _RATE_IS_STATE:
        return "it reads the learning rate only once"

    def one_update() -> tuple[Any, Any]:
        optimizer = make_optimizer(training)
        # Created while tracing: a launcher must not occupy the GPU of its jobs.
        params = {"layer": {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}}
        hyper = Hyper(*(jnp.zeros(()) for _ in Hyper._fields))
        state = optimizer.init(params)
        updates, after = optimizer.update(params, state, params, hyper, jnp.int32(0))
        return (params, state), (updates, after)

    try:
        before, after = jax.eval_shape(one_update)
    except Exception as error:
        return str(error).partition("\n")[0]
    # A scan over steps needs a constant state type.
    return "" if before == after else "an update changes shapes or types of its state"


def scales_arrays(training: ConfigDict) -> bool:
    """Whether updates depend on other elements of the same array, as in LAMB."""
    optimizer = make_optimizer(training)
    hyper = Hyper(*(jnp.ones(()) for _ in Hyper._fields))

    def updates(params_and_gradients: tuple[Params, ...]) -> np.ndarray:
        params, gradients = params_and_gradients
        found, _ = optimizer.update(gradients, optimizer.init(params), params, hyper, jnp.int32(0))
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])

    both = jnp.array([[1.0, 2.0], [30.0, -40.0]]), jnp.array([[3.0, 1.0], [-0.1, 0.2]])
    whole = tuple({"layers": {"w": array}} for array in both)
    apart = tuple({f"layer_{i}": {"w": row} for i, row in enumerate(array)} for array in both)
    return not np.allclose(updates(whole), updates(apart), rtol=1e-3)


def decayed(params: Params) -> Params:
    """Which leaves decay: weights and tables, not biases, offsets and scales."""
    names = ("b", "offset", "scale")
    return {
        module: {name: name not in names for name in leaves} for module, leaves in params.items()
    }


@functools.cache
def _optimizers() -> dict[str, Mapping[str, inspect.Parameter]]:
    """Parameters of each optax function that takes a learning rate, by name."""
    return {
        name: parameters
        for name, entry in inspect.getmembers(optax, inspect.isfunction)
        if "learning_rate" in (parameters := inspect.signature(entry).parameters)
        and not name.startswith("_")
    }


def _argument_problems(settings: ConfigDict) -> Iterator[str]:
    """Unknown names of optimizers, and options that do not fit the optimizer's signature."""
    name = settings.name
    if name not in _optimizers():
        what = f"optax has no optimizer '{name}' that takes a learning rate"
        yield f"training.optimizer.name = '{name}': {what}{nearest_name(name, _optimizers())}"
        return
    parameters = _optimizers()[name]
    allowed = sorted(parameters.keys() - _OURS)
    for option, value in settings.options.items():
        path = f"{OPTIMIZER_OPTIONS}{option}"
        if option in _OURS:
            yield f"{path}: set training.optimizer.{option} instead"
        elif option not in allowed:
            hint = nearest_name(option, allowed)
            listed = ", ".join(allowed) or "nothing"
            yield f"{path}: optax.{name} does not take {option} (allowed: {listed}){hint}"
        elif value is not None and not (rule := _rule(parameters[option].default)).allows(value):
            yield f"{path} = {value!r} must be {rule.text}"


def _rule(default: Any) -> Rule:
    """Allowed values of an argument, by its default in optax; a traced update checks the rest."""
    if isinstance(default, bool):
        return BOOLEAN
    if isinstance(default, int | float):
        return number(-math.inf)._replace(words="a number")
    # The types that config.json can store.
    kinds = bool | int | float | str
    return Rule(lambda value: isinstance(value, kinds), "a number, True, False, a string, or none")
