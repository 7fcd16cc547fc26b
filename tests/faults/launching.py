"""Real processes of `experiments.train`, one or several for a run, to be hurt."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from emergent_icl.training.reporting import read_metrics

ROOT = Path(__file__).parent.parent.parent
INJECTED = Path(__file__).with_name("injected.py")
# A process that is not over by then hangs.
PATIENCE = 240
TRAIN = ("-m", "experiments.train")
TIMES = ("steps_per_second", "sequences_per_second")


class Processes:
    """The processes of one run."""

    def __init__(
        self,
        workdir,
        flags,
        count=1,
        devices=1,
        own_flags=(),
        program=TRAIN,
        environment=(),
        prefix=(),
    ):
        """Starts them.

        Args:
          workdir: of the run.
          flags: of all of them.
          count: how many.
          devices: virtual ones, of each.
          own_flags: further flags of each process.
          program: words after `python`.
          environment: variables besides this process's.
          prefix: words before `python`.
        """
        xla = f"--xla_force_host_platform_device_count={devices}"
        address = f"localhost:{free_port()}"
        self.running = []
        for index in range(count):
            words = [f"--workdir={workdir}", *flags, *(own_flags[index] if own_flags else ())]
            if count > 1:
                words += [
                    f"--coordinator_address={address}",
                    f"--num_processes={count}",
                    f"--process_id={index}",
                ]
            self.running.append(
                subprocess.Popen(
                    [*prefix, sys.executable, *program, *words],
                    cwd=ROOT,
                    env={**os.environ, "XLA_FLAGS": xla, **dict(environment)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.running:
            process.kill()
            process.communicate()

    def wait(self, index=0, patience=PATIENCE):
        """(exit status, standard output, standard error) of one that ends by itself."""
        process = self.running[index]
        out, err = process.communicate(timeout=patience)
        return process.returncode, out, err

    def send(self, signal_number, index=0):
        """Sends a signal to one."""
        self.running[index].send_signal(signal_number)


def start_injected(workdir, fault, at, flags, **settings):
    """A run with a fault of `injected.py` in it."""
    program = (str(INJECTED), fault, str(at))
    return Processes(workdir, flags, program=program, **settings)


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=PATIENCE, pause=0.02):
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(pause)


def unfinished(folder):
    """Names of checkpoints that are being written, or never were to the end."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}


def end(folder, flags, **settings):
    """(exit status, standard output, standard error) of a command that is alone."""
    with Processes(folder, flags, **settings) as process:
        return process.wait()


def only_message(err):
    """The one message; there is nothing else."""
    assert "Traceback" not in err, err
    assert "Exception" not in err, err
    assert err.count("error:") == 1, err
    return err[err.index("error:") :]


def records(folder):
    """Lines of metrics, without what differs between runs that are the same."""
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def train_flags(preset="resnet", **options):
    """Of a tiny run; options by their path."""
    overrides = [f"--config.{path}={value}" for path, value in options.items()]
    return [f"--config=tests/tiny.py:{preset}", *overrides]
