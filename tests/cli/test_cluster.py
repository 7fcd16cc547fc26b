"""Which processes a run has: by flags, by a scheduler, or this one alone."""

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


def test_a_process_is_alone_where_nobody_says_otherwise():
    assert membership({}) is None


def test_flags_are_taken_as_they_are_even_under_a_scheduler():
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
def test_flags_that_are_missing_or_wrong_are_named(given, said):
    with pytest.raises(ClusterError, match=said):
        membership({}, *given)


def test_tasks_of_slurm_and_ranks_of_open_mpi_are_processes_of_one_run():
    """JAX itself knows how to ask both."""
    assert membership(SLURM) == {}
    mpi = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_MCA_orte_hnp_uri": "1"}
    assert membership(mpi) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},
        # An interactive shell in an allocation of four.
        {"SLURM_STEP_NUM_TASKS": "1"},
        # A batch script, and whatever it starts without srun, is no task.
        {"SLURM_STEP_NODELIST": None},
    ],
)
def test_one_task_and_no_task_are_alone(changed):
    environment = {name: value for name, value in (SLURM | changed).items() if value}
    assert membership(environment) is None


def test_an_open_mpi_that_jax_cannot_ask_is_said():
    with pytest.raises(ClusterError, match=r"version of Open MPI.*--coordinator_address"):
        membership({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
    assert membership({"OMPI_COMM_WORLD_SIZE": "1"}) is None


def test_a_task_that_is_alone_on_its_node_has_all_of_its_gpus(monkeypatch):
    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["2", "5"])
    alone = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
    assert membership(SLURM | alone) == {"local_device_ids": [0, 1]}
    # Two tasks a node have one each.
    assert membership(SLURM) == {}
    mpi = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_MCA_orte_hnp_uri": "1"}
    assert membership(mpi | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}) == {}
    assert membership(mpi | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}) == {"local_device_ids": [0, 1]}


def test_a_task_that_sees_a_single_gpu_has_that_one(monkeypatch):
    """However many tasks its node has: `srun --gpus-per-task=1`."""
    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["0"])
    assert membership(SLURM) == {"local_device_ids": [0]}


def test_tpus_of_this_machine_alone_need_nobody(monkeypatch):
    """Where JAX finds no others it has nobody to be told of by."""

    def initialize(**settings):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    for name in ("JOIN_SECONDS", "HEARTBEAT_SECONDS"):
        monkeypatch.setattr(cluster, name, SimpleNamespace(value=1))
    assert not cluster._initialize({})
    with pytest.raises(ClusterError, match="could not be joined: coordinator_address"):
        cluster._initialize({"num_processes": 2})


def test_tpus_are_asked_for_the_others(monkeypatch, tmp_path):
    (tmp_path / "accel0").touch()
    monkeypatch.setattr(cluster, "_TPUS", (str(tmp_path / "accel0"),))
    # Any device may be of that name.
    assert membership({}) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert membership({}) == {}
    assert membership({"JAX_PLATFORMS": "cpu"}) is None
