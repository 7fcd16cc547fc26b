"""Joins the processes that train one run, before JAX sees a device.

By flags, or as the scheduler says that started them: SLURM (`srun`), Open MPI (`mpirun`) and
Cloud TPUs, which `jax.distributed` knows how to ask.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from emergent_icl.cli.console import say
from emergent_icl.cli.signals import SIGNALS
from emergent_icl.sweeps.execute.local import visible_gpus

COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where several processes train one run."
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes train one run.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this is, from 0 on.", lower_bound=0
)
HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_timeout", 60, "Seconds of silence until a process counts as lost.", lower_bound=5
)
JOIN_SECONDS = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds that processes wait for each other at first.", lower_bound=1
)

# A scheduler that starts several processes sets all of these variables; the first is their number.
SLURM = (
    # Of the step, since an interactive shell in an allocation of many tasks is a single one.
    "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID",
    "SLURM_LOCALID",
)  # fmt: skip
OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri")
# Words in the runtime's message when another process is gone.
_SIGNS_OF_LOSS = (
    "gloo", "nccl", "connection", "socket", "unavailable", "aborted", "deadline", "heartbeat",
    "coordination", "barrier",
)  # fmt: skip
FLAGS = "--coordinator_address, --num_processes and --process_id"
GO_ON = "Saved checkpoints are intact. Restart all processes to resume."
_TPUS = ("/dev/accel0", "/dev/vfio/0")


class ClusterError(RuntimeError):
    """The processes of a run do not find each other, or one of them was lost."""


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside, this process has joined the others that the flags or a scheduler ask for, if any.

    The runtime ends a process that does not find the others or loses them. What a user must know
    then is therefore said beforehand.

    Raises:
      ClusterError: see ClusterError.
    """
    arguments = membership(os.environ, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if arguments is None or not _initialize(arguments):
        yield
        return
    count, index = jax.process_count(), jax.process_index()
    if index == 0:
        say(f"{'processes':>10}  {count}; if one of them is lost, the others end. {GO_ON}")
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not any(sign in str(error).lower() for sign in _SIGNS_OF_LOSS):
            raise
        why = f"process {index} of {count} lost another one: {str(error).splitlines()[0]}"
        raise ClusterError(f"{why}\n{GO_ON}") from error


def membership(
    environment: Mapping[str, str],
    address: str | None = None,
    count: int | None = None,
    index: int | None = None,
) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; None for a process that is alone.

    Either all of the flags are given, or none, and the environment of the process decides.

    Raises:
      ClusterError: some of the flags are missing or contradict each other.
    """
    given = {"coordinator_address": address, "num_processes": count, "process_id": index}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if address is not None and count is not None and index is not None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ClusterError(
                f"--coordinator_address={address} must be HOST:PORT, with a port from 1 to 65535"
            )
        if index >= count:
            raise ClusterError(f"--process_id={index} must be below --num_processes={count}")
        # All devices of this process; a scheduler is not asked.
        return {**given, "cluster_detection_method": "deactivate"}
    if len(missing) < len(given):
        raise ClusterError(
            f"{' and '.join(missing)} must be given too: a run of several processes needs "
            f"{FLAGS}, or none of them under a scheduler"
        )
    return _of_scheduler(environment)


def _of_scheduler(environment: Mapping[str, str]) -> dict[str, Any] | None:
    def has_several(variables: Sequence[str]) -> bool:
        return environment.keys() >= set(variables) and int(environment[variables[0]]) > 1

    if has_several(SLURM):
        nodes = environment.get("SLURM_STEP_NUM_NODES")
        is_alone = nodes == environment["SLURM_STEP_NUM_TASKS"]
    elif has_several(OPEN_MPI):
        is_alone = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    elif has_several(OPEN_MPI[:1]):
        raise ClusterError(
            "JAX cannot ask this version of Open MPI for the processes of the run: give each of "
            f"them {FLAGS}"
        )
    else:
        may_use_tpus = environment.get("JAX_PLATFORMS", "") in ("", "tpu")
        can_use_tpus = may_use_tpus and importlib.util.find_spec("libtpu") is not None
        return {} if can_use_tpus and any(Path(device).exists() for device in _TPUS) else None
    # JAX assigns to a process the GPU of its number on the node. One that is alone there, or sees a
    # single GPU, has all that it sees.
    gpus = visible_gpus()
    takes_all = gpus and (is_alone or len(gpus) == 1)
    return {"local_device_ids": list(range(len(gpus)))} if takes_all else {}


def _initialize(arguments: Mapping[str, Any]) -> bool:
    """Whether there was something to join: TPUs may belong to this machine alone."""
    if place := arguments.get("coordinator_address"):
        waits = f"waits for the other processes of the run, {JOIN_SECONDS.value} s at most"
        say(f"{'joins':>10}  {place}; {waits} (--join_timeout)")
    # Otherwise the runtime would answer SIGTERM itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with contextlib.ExitStack() as afterwards:
            # A signal ends the process while it waits: there is nothing to save yet.
            for number in SIGNALS:
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                    afterwards.callback(signal.signal, number, handler)
                    signal.signal(number, signal.SIG_DFL)
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=JOIN_SECONDS.value,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS.value,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS.value,
            )
    except (RuntimeError, ValueError, OSError) as error:
        if not arguments and "coordinator_address" in str(error):
            return False
        why = str(error).splitlines()[0]
        raise ClusterError(f"the processes of the run could not be joined: {why}") from error
    return True
