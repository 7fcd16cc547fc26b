"""Devices: layout, placement, averages over devices, and the mapped training step.

Letters: D devices of this process, K steps per call, R replicas, B sequences per batch, S examples
per sequence. Replicas are together (each device gets a share of every batch) or spread (each device
has R/D whole replicas); see `Layout`. All replicas share one bank.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.data.bank import Array, DeviceBank
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.training.optimizers import Hyper
from emergent_icl.training.update import Metrics, TrainState, Update

AXIS = "devices"
CALLS_IN_FLIGHT = 2
# Copies device arrays to the host; waits for them.
fetch = jax.device_get
Tree = TypeVar("Tree")
# (update of one replica, K) -> K updates of all: a batch [K, R, B, S] gives metrics [K, R].
OverReplicas = Callable[[Update, int], Update]


def place_bank(bank: DeviceBank) -> DeviceBank:
    """Copies a bank of host arrays to every device of this process."""
    return jax.device_put(bank, _sharding())


def _sharding(*axes: str) -> jax.sharding.NamedSharding:
    """Splits a leading axis AXIS over the local devices; without axes, copies all to each."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def spreads_by_itself(num_replicas: int, num_devices: int) -> bool:
    """Whether replicas are spread without being asked to: over CPUs that divide their number.

    The cores of a CPU gain little by sharing a small batch.
    """
    if num_devices == 1 or num_replicas == 1 or num_replicas % num_devices:
        return False
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def on_first_device(tree: Tree) -> Tree:
    """The part of placed arrays on the first local device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def calls_in_flight() -> int:
    """Calls that may be in flight besides the current one.

    Limits how far the host runs ahead of the device, and so the response time to signals. On CPUs
    of several processes it is 0: concurrent collectives can deadlock.
    """
    on_cpus = jax.default_backend() == "cpu" and jax.process_count() > 1
    return 0 if on_cpus else CALLS_IN_FLIGHT


def greatest_of_processes(number: int) -> jax.Array:
    """The maximum of the numbers that all processes pass, [D]; does not wait."""
    return _greatest(np.full(jax.local_device_count(), number, np.int32))


_greatest = jax.pmap(lambda number: jax.lax.pmax(number, AXIS), axis_name=AXIS)


def stack_replicas(trees: list[Tree]) -> Tree:
    """Stacks R trees into one tree of host arrays [R, ...]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Placement of replicas.

    | | together | spread |
    | --- | --- | --- |
    | state, hyper | [D, R, ...], the same on every device | [D, R/D, ...] |
    | a batch [K, R, B, S] | [D, K, R, B/D, S] | [D, K, R/D, B, S] |
    | metrics | [D, K, R], the same on every device | [D, K, R/D] |

    Spread replicas need a single host, and an R that is a multiple of D.
    """

    num_replicas: int = 1
    is_spread: bool = False

    def replicas_per_device(self) -> int:
        """R, or R/D if they are spread."""
        return self.num_replicas // (jax.local_device_count() if self.is_spread else 1)

    def over_replicas(self, is_lean: bool) -> OverReplicas:
        """How a device computes its replicas; for `is_lean`, see `training.arithmetic`."""
        if jax.default_backend() != "cpu":
            return all_at_once  # Nothing else has been measured there.
        if is_lean and self.replicas_per_device() == 1:
            return alone
        return in_turn if self.num_replicas > 1 else all_at_once

    def mean_over_devices(self, tree: Tree) -> Tree:
        """In the train call: mean over the devices that share a batch."""
        return tree if self.is_spread else jax.lax.pmean(tree, AXIS)

    def mean_of_gradients(self, tree: Tree) -> Tree:
        """`mean_over_devices`, skipped on one device, where XLA would copy all gradients."""
        alone = self.is_spread or jax.lax.axis_size(AXIS) == 1
        return tree if alone else self.mean_over_devices(tree)

    def rows(self, count: int) -> jax.Array:
        """In the train call: rows of this device's `count` sequences in the global batch."""
        share = 0 if self.is_spread else jax.lax.axis_index(AXIS)
        return share * count + jnp.arange(count)

    def place(self, tree: Tree) -> Tree:
        """Host arrays [R, ...] -> arrays on the devices.

        The placement is that of the train call's output; otherwise the second call would recompile.
        """
        count = jax.local_device_count()

        def shares(leaf: Array) -> np.ndarray:
            if self.is_spread:
                return np.reshape(leaf, (count, -1, *np.shape(leaf)[1:]))
            return np.broadcast_to(leaf, (count, *np.shape(leaf)))

        return jax.device_put(jax.tree.map(shares, tree), _sharding(AXIS))

    def shard_batch(self, batch: SequenceBatch) -> SequenceBatch:
        """[K, R, B, S] -> input of the train call: consecutive shares, one per device."""
        count, axis = jax.local_device_count(), 1 if self.is_spread else 2
        return SequenceBatch(*(np.stack(np.split(leaf, count, axis)) for leaf in batch))

    def needed(self, tree: Tree) -> Tree:
        """The device arrays to copy for the state, or metrics, of all replicas."""
        return tree if self.is_spread else on_first_device(tree)

    def state_on_host(self, copied: Tree) -> Tree:
        """Host copy of the `needed` part of a state -> [R, ...]."""
        return jax.tree.map(lambda leaf: np.reshape(leaf, (-1, *leaf.shape[2:])), copied)

    def metrics_on_host(self, copied: Tree) -> Tree:
        """Host copy of the `needed` part of metrics -> [K, R]."""
        return jax.tree.map(lambda leaf: np.concatenate(leaf, axis=1), copied)

    def replica(self, tree: Tree, index: int) -> Tree:
        """One replica's part of a state, without leading axes, on the first local device."""
        if not self.is_spread:
            return _take(self.needed(tree), index)
        device, place = divmod(index, self.replicas_per_device())
        own = jax.tree.map(lambda leaf: leaf.addressable_data(device), tree)
        return jax.device_put(_take(own, place), jax.local_devices()[0])


@jax.jit
def _take(tree: Tree, place: int) -> Tree:
    """[1, R, ...] -> [...] for all leaves, in one program."""
    return jax.tree.map(lambda leaf: leaf[0, place], tree)


def all_at_once(update: Update, steps_per_call: int) -> Update:
    """Scan over K steps of a vmap over R replicas, for devices that one replica does not fill."""
    return _one_by_one(jax.vmap(update, in_axes=(0, 0, None, 0)), steps_per_call)


def alone(update: Update, steps_per_call: int) -> Update:
    """Scan over K steps of a device's only replica, without the axis of replicas.

    On CPU, a vmap over one replica makes small models up to 17% slower.
    """
    steps = _one_by_one(update, steps_per_call)

    def run(
        state: TrainState, hyper: Hyper, bank: DeviceBank, batch: SequenceBatch
    ) -> tuple[TrainState, Metrics]:
        state, hyper = jax.tree.map(lambda leaf: leaf[0], (state, hyper))
        state, metrics_K = steps(state, hyper, bank, jax.tree.map(lambda leaf: leaf[:, 0], batch))
        state = jax.tree.map(lambda leaf: leaf[None], state)
        return state, jax.tree.map(lambda leaf: leaf[:, None], metrics_K)

    return run


def in_turn(update: Update, steps_per_call: int) -> Update:
    """Map over R replicas of a scan over K steps, for CPUs.

    On CPUs, batched products of small matrices are slower than separate products.
    """
    steps = _one_by_one(update, steps_per_call)

    def run(
        state: TrainState, hyper: Hyper, bank: DeviceBank, batch: SequenceBatch
    ) -> tuple[TrainState, Metrics]:
        by_replica = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batch)
        state, metrics_RK = jax.lax.map(
            lambda own: steps(own[0], own[1], bank, own[2]), (state, hyper, by_replica)
        )
        return state, jax.tree.map(jnp.transpose, metrics_RK)

    return run


def _one_by_one(update: Update, steps_per_call: int) -> Update:
    """K steps on a batch [K, ...], with metrics [K, ...]."""

    def steps(
        state: TrainState, hyper: Hyper, bank: DeviceBank, batch: SequenceBatch
    ) -> tuple[TrainState, Metrics]:
        # No scan if K = 1: on CPU, convolutions inside a scan run on a single thread.
        if steps_per_call > 1:
            return jax.lax.scan(lambda state, one: update(state, hyper, bank, one), state, batch)
        state, metrics = update(state, hyper, bank, jax.tree.map(lambda leaf: leaf[0], batch))
        return state, jax.tree.map(lambda leaf: leaf[None], metrics)

    return steps


def make_train_call(
    update: Update, steps_per_call: int, over_replicas: OverReplicas = all_at_once
) -> Update:
    """Maps K steps of an update over all devices; donates the state, which cannot be reused."""
    call = over_replicas(update, steps_per_call)
    return jax.pmap(call, axis_name=AXIS, in_axes=(0, 0, None, 0), donate_argnums=(0,))
