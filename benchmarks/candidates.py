"""What might make a step faster on an accelerator.

Nothing of it is used before an accelerator has measured it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import haiku as hk
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from benchmarks import suites
from benchmarks.measure import Trainer
from emergent_icl.data.bank import Array
from emergent_icl.models.network import BatchStats, Network, Params
from emergent_icl.models.normalization import DECAY
from emergent_icl.training import devices, step
from emergent_icl.training.build import Experiment, build_network
from emergent_icl.training.optimizers import Optimizer
from emergent_icl.training.update import GradientNorm, norm_in_a_condition, norm_when


class Candidate(NamedTuple):
    """Changes of the program, or flags of XLA."""

    optimizer: Callable[[Optimizer], Optimizer] = lambda plain: plain
    network: type[Network] = Network
    norm_when: Callable[..., GradientNorm] = norm_when
    layout: type[devices.Layout] = devices.Layout
    xla_flags: str = ""


PLAIN = Candidate()


def flat(optimizer: Optimizer) -> Optimizer:
    """The same optimizer on one vector of all parameters, for optimizers that act elementwise."""

    def vector(tree: Any) -> Any:
        return {"all": {"parameters": ravel_pytree(tree)[0]}}

    def update(gradients: Any, state: Any, params: Any, *others: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(vector(gradients), state, vector(params), *others)
        return ravel_pytree(params)[1](updates["all"]["parameters"]), state

    return optimizer._replace(init=lambda params: optimizer.init(vector(params)), update=update)


class JoinedAverages(Network):
    """The same network, with the running averages of all BatchNorm layers updated as one vector."""

    def encode(
        self, params: Params, stats: BatchStats, examples: Array, is_training: bool
    ) -> tuple[jax.Array, BatchStats]:
        """As in `Network`."""
        with hk.intercept_methods(_keep_the_value):
            outputs, new = super().encode(params, stats, examples, is_training)
        return outputs, _averaged(stats, new) if is_training and stats else new


def _keep_the_value(
    method: Callable[..., Any], args: Any, kwargs: Any, context: hk.MethodContext
) -> Any:
    """Stores what a running average is to include, in its place."""
    is_average = isinstance(context.module, hk.ExponentialMovingAverage)
    if not (is_average and context.method_name == "__call__") or hk.running_init():
        return method(*args, **kwargs)
    hk.set_state("hidden", args[0])
    return None


def _averaged(old: BatchStats, new: BatchStats) -> BatchStats:
    """The running averages of `old` after the values in `new`; all layers count alike."""
    hidden, unravel = ravel_pytree({name: leaves["hidden"] for name, leaves in old.items()})
    values, _ = ravel_pytree({name: leaves["hidden"] for name, leaves in new.items()})
    count = next(iter(old.values()))["counter"] + 1
    hidden = hidden * DECAY + values * (1 - DECAY)
    sums, averages = unravel(hidden), unravel(hidden / (1 - jnp.power(DECAY, count)))
    return {
        name: {"average": averages[name], "counter": count, "hidden": sums[name]} for name in old
    }


class WithoutReplicas(devices.Layout):
    """The same layout, without the axis of a single replica in the compiled step."""

    def over_replicas(self, is_lean: bool) -> devices.OverReplicas:
        """As in `Layout`."""
        return devices.alone if self.replicas_per_device() == 1 else super().over_replicas(is_lean)


CANDIDATES = {
    "flat_optimizer_state": Candidate(optimizer=flat),
    "joined_averages": Candidate(network=JoinedAverages),
    "no_axis_of_replicas": Candidate(layout=WithoutReplicas),
    # With that axis, both branches would be computed.
    "norm_in_a_condition": Candidate(
        norm_when=lambda is_due: norm_in_a_condition(is_due) if is_due else norm_when(None),
        layout=WithoutReplicas,
    ),
    "no_command_buffers": Candidate(xla_flags="--xla_gpu_enable_command_buffer="),
    "command_buffers_from_one_operation": Candidate(xla_flags="--xla_gpu_graph_min_graph_size=1"),
}


def trainer(experiment: Experiment, candidate: Candidate) -> Trainer:
    """The step of this library with the changes of a candidate, but for its flags."""

    def network(*arguments: Any) -> Network:
        plain = build_network(*arguments)
        return candidate.network(plain.parts, plain.policy)

    experiment = experiment._replace(optimizer=candidate.optimizer(experiment.optimizer))
    with (
        mock.patch.object(step, "build_network", network),
        mock.patch.object(step, "norm_when", candidate.norm_when),
        mock.patch.object(devices, "Layout", candidate.layout),
    ):
        return suites.our_trainer(experiment)
