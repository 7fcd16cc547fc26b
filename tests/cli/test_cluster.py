"""The processes of a run, from flags or a scheduler."""

from types import SimpleNamespace

import pytest

from emergent_icl.cli import cluster
from emergent_icl.cli.cluster import ClusterError, membership

SLURM = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


@pytest.fixture(autouse=True)
def _no_tpus(monkeypatch):
    monkeypatch.setattr(cluster, "_TPUS", ("/nowhere",))


def test_without_flags_or_scheduler_there_is_one_process():
    assert membership({}) is None


def test_flags_take_precedence_over_a_scheduler():
    assert membership(SLURM, "node1:1234", 2, 1) == {
        "coordinator_address": "node1:1234",
        "num_processes": 2,
        "process_id": 1,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("node1:1234",), "also give --num_processes and --process_id: a run"),
        ((None, 2, 0), "also give --coordinator_address: a run"),
        (("node1", 2, 0), "--coordinator_address=node1 must be HOST:PORT"),
        ((":80", 2, 0), "must be HOST:PORT"),
        (("node1:70000", 2, 0), "port from 1 to 65535"),
        (("node1:1234", 2, 2), "--process_id=2 must be below --num_processes=2"),
    ],
)
def test_missing_or_invalid_flags_are_named(given, said):
    with pytest.raises(ClusterError, match=said):
        membership({}, *given)


def test_slurm_tasks_and_open_mpi_ranks_are_processes_of_one_run():
    """JAX detects both."""
    assert membership(SLURM) == {}
    mpi = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_MCA_orte_hnp_uri": "1"}
    assert membership(mpi) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},
        # An interactive shell in an allocation of four tasks.
        {"SLURM_STEP_NUM_TASKS": "1"},
        # A batch script, and what it starts without srun, is not a task.
        {"SLURM_STEP_NODELIST": None},
    ],
)
def test_a_single_task_is_a_run_with_one_process(changed):
    environment = {name: value for name, value in (SLURM | changed).items() if value}
    assert membership(environment) is None


def test_an_unsupported_open_mpi_is_an_error():
    with pytest.raises(ClusterError, match=r"version of Open MPI.*--coordinator_address"):
        membership({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
    assert membership({"OMPI_COMM_WORLD_SIZE": "1"}) is None


def test_a_task_alone_on_its_node_uses_all_its_gpus(monkeypatch):
    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["2", "5"])
    alone = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
    assert membership(SLURM | alone) == {"local_device_ids": [0, 1]}
    # Two tasks per node get one GPU each.
    assert membership(SLURM) == {}
    mpi = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_MCA_orte_hnp_uri": "1"}
    assert membership(mpi | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}) == {}
    assert membership(mpi | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}) == {"local_device_ids": [0, 1]}


def test_a_task_that_sees_one_gpu_uses_it(monkeypatch):
    """For any number of tasks on its node: `srun --gpus-per-task=1`."""
    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["0"])
    assert membership(SLURM) == {"local_device_ids": [0]}


def test_a_single_tpu_machine_needs_no_coordinator(monkeypatch):
    """JAX finds no other processes, and therefore no coordinator."""

    def initialize(**settings):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    for name in ("JOIN_SECONDS", "HEARTBEAT_SECONDS"):
        monkeypatch.setattr(cluster, name, SimpleNamespace(value=1))
    assert not cluster._initialize({})
    with pytest.raises(ClusterError, match="could not be joined: coordinator_address"):
        cluster._initialize({"num_processes": 2})


def test_tpus_are_detected(monkeypatch, tmp_path):
    (tmp_path / "accel0").touch()
    monkeypatch.setattr(cluster, "_TPUS", (str(tmp_path / "accel0"),))
    # Other devices may have that name.
    assert membership({}) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert membership({}) == {}
    assert membership({"JAX_PLATFORMS": "cpu"}) is None
