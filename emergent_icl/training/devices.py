"""Everything that knows of devices: layout, placement, and the mapped train step.

Letters: D local devices, K steps a call, R replicas, B sequences of this host, S examples.
A host batch [K, R, B, S] lies on the devices as [D, K, R, B/D, S]; state and hyper as
[D, R, ...], the same on every device; the bank is placed once and shared by all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from emergent_icl.datasets.bank import DeviceBank
from emergent_icl.datasets.class_space import SequenceBatch
from emergent_icl.training.state import Array, Hyper, TrainState
from emergent_icl.training.update import Metrics, Update

AXIS = "devices"
Tree = TypeVar("Tree")
# (state [D, R], hyper [D, R], bank, batch [D, K, R, B/D, S]) -> (state, metrics [D, K, R])
TrainCall = Callable[
    [TrainState, Hyper, DeviceBank, SequenceBatch], tuple[TrainState, dict[str, jax.Array]]
]


def place_bank(bank: DeviceBank) -> DeviceBank:
    """Copies a bank of host arrays to every device, once.

    Left unplaced, it would travel again in every call.
    """
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(bank, everywhere)


def on_first_device(bank: DeviceBank) -> DeviceBank:
    """The copy of a placed bank that lies on the first local device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), bank)


def stack_replicas(trees: list[Tree]) -> Tree:
    """R trees -> one tree of host arrays with a leading axis [R]."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def replicate(tree: Tree) -> Tree:
    """Host arrays [R, ...] -> [D, R, ...], the same on every local device.

    Placed as the train call returns its state: a host array would be placed otherwise, and
    the second call would compile once more.
    """
    local = jax.local_devices()
    mesh = jax.sharding.Mesh(np.array(local), (AXIS,))
    one_each = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def place(leaf: Array) -> jax.Array:
        return jax.device_put(np.broadcast_to(leaf, (len(local), *np.shape(leaf))), one_each)

    return jax.tree.map(place, tree)


def first_device(tree: Tree) -> Tree:
    """[D, ...] -> the first local device's arrays [...], still on that device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], tree)


def fetch(tree: Any) -> Any:
    """Copies device arrays to the host; waits for them."""
    return jax.device_get(tree)


def shard_batch(batch: SequenceBatch) -> SequenceBatch:
    """[K, R, B, S] -> [D, K, R, B/D, S]: device d gets the d-th consecutive share."""
    count = jax.local_device_count()

    def shard(leaf: np.ndarray) -> np.ndarray:
        steps, replicas, rows, length = leaf.shape
        split = leaf.reshape(steps, replicas, count, rows // count, length)
        return np.moveaxis(split, 2, 0)

    return SequenceBatch(*(shard(leaf) for leaf in batch))


def make_train_call(update: Update, steps_per_call: int) -> TrainCall:
    """pmap(scan over K steps (vmap over R replicas (update))).

    Args:
      update: of one replica, with `axis_name=AXIS`.
      steps_per_call: K. With K = 1 there is no scan: convolutions inside one run on a
        single thread on CPU.

    Returns:
      The call. It donates the state: the caller must not use the one that it passed.
    """
    update_replicas = jax.vmap(update, in_axes=(0, 0, None, 0))

    def call(
        state: TrainState, hyper: Hyper, bank: DeviceBank, batch: SequenceBatch
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, step_batch: SequenceBatch) -> tuple[TrainState, Metrics]:
            return update_replicas(state, hyper, bank, step_batch)

        if steps_per_call > 1:
            return jax.lax.scan(body, state, batch)
        state, metrics = body(state, jax.tree.map(lambda leaf: leaf[0], batch))
        return state, jax.tree.map(lambda leaf: leaf[None], metrics)

    return jax.pmap(call, axis_name=AXIS, in_axes=(0, 0, None, 0), donate_argnums=(0,))
