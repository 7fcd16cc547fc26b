"""Joins the processes that train one run, before JAX looks for devices.

Flags describe them, or a scheduler that JAX supports: SLURM, Open MPI, or Cloud TPU.
"""

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
from emergent_icl.cli.signals import SIGNALS, unchanged_signals
from emergent_icl.training.settings import visible_gpus

COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0 of a run with several processes."
)
_define = flags.DEFINE_integer
NUM_PROCESSES = _define("num_processes", None, "Number of processes of the run.", lower_bound=1)
PROCESS_ID = _define("process_id", None, "Index of this process, from 0.", lower_bound=0)
HEARTBEAT_SECONDS = _define(
    "heartbeat_timeout", 60, "Seconds of silence after which a process counts as lost.", 5
)
JOIN_SECONDS = _define("join_timeout", 300, "Seconds to wait for the other processes.", 1)

# Variables that a scheduler sets; the first is the number of processes. SLURM's counts those of the
# job step: an interactive shell in an allocation of many tasks is one process.
SLURM = (
    "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID",
    "SLURM_LOCALID",
)  # fmt: skip
OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri")
# Words in JAX's message when another process is lost.
_SIGNS_OF_LOSS = (
    "gloo", "nccl", "connection", "socket", "unavailable", "aborted", "deadline", "heartbeat",
    "coordination", "barrier",
)  # fmt: skip
FLAGS = "--coordinator_address, --num_processes and --process_id"
ADVICE = "Saved checkpoints are intact. Restart all processes to resume."
_TPUS = ("/dev/accel0", "/dev/vfio/0")


class ClusterError(RuntimeError):
    """Processes of a run do not find each other, or one was lost."""


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside, this process has joined the others, if any; raises ClusterError.

    JAX's runtime may end a process that loses the others, so advice is printed beforehand.
    """
    arguments = membership(os.environ, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if arguments is None or not _initialize(arguments):
        yield
        return
    count, index = jax.process_count(), jax.process_index()
    if index == 0:
        say(f"{'processes':>10}  {count}; if one is lost, all end. {ADVICE}")
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not any(sign in str(error).lower() for sign in _SIGNS_OF_LOSS):
            raise
        why = f"process {index} of {count} lost another: {str(error).splitlines()[0]}"
        raise ClusterError(f"{why}\n{ADVICE}") from error


def membership(
    environment: Mapping[str, str],
    address: str | None = None,
    count: int | None = None,
    index: int | None = None,
) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, from flags or environment; None for one process.

    Raises:
      ClusterError: flags are missing or contradict each other.
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
        return {**given, "cluster_detection_method": "deactivate"}
    if len(missing) < len(given):
        raise ClusterError(
            f"also give {' and '.join(missing)}: a run of several processes needs {FLAGS}; "
            "under a scheduler, omit all three"
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
            f"JAX does not support this version of Open MPI: give each process {FLAGS}"
        )
    else:
        may_use = environment.get("JAX_PLATFORMS", "") in ("", "tpu")
        has_tpus = any(Path(device).exists() for device in _TPUS)
        return {} if may_use and has_tpus and importlib.util.find_spec("libtpu") else None
    # JAX assigns one GPU by local rank. A process alone on its node, or with one GPU, takes all.
    gpus = visible_gpus()
    takes_all = gpus and (is_alone or len(gpus) == 1)
    return {"local_device_ids": list(range(len(gpus)))} if takes_all else {}


def _initialize(arguments: Mapping[str, Any]) -> bool:
    """Joins; False if there are no others, as on a machine with its own TPUs."""
    if place := arguments.get("coordinator_address"):
        waits = f"waiting up to {JOIN_SECONDS.value} s for the other processes"
        say(f"{'joining':>10}  {place}; {waits} (--join_timeout)")
    # Otherwise the runtime would handle SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with unchanged_signals():
            # Signals end the process while it waits: there is nothing to save yet.
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            lost = HEARTBEAT_SECONDS.value
            jax.distributed.initialize(
                **arguments, initialization_timeout=JOIN_SECONDS.value,
                heartbeat_timeout_seconds=lost, shutdown_timeout_seconds=lost,
            )  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        if not arguments and "coordinator_address" in str(error):
            return False
        why = str(error).splitlines()[0]
        raise ClusterError(f"the processes of the run could not be joined: {why}") from error
    return True
