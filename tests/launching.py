"""Starts, awaits, and interrupts real processes of the launchers, one or several per run."""

import atexit
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from forking import ask, write_stand_in

from emergent_icl.runs.records import read_metrics

ROOT = Path(__file__).parent.parent
INJECTED = ROOT / "tests" / "faults" / "injected.py"
# Seconds after which a process is considered to hang.
PATIENCE = 240
TIMES = ("steps_per_second", "sequences_per_second")
# Prefixes of variables that Python and JAX read before a forked process has its own.
EARLY = ("PYTHON", "JAX_", "LC_", "LANG", "MPL")
# Without it, a launcher would restart itself (emergent_icl/cli/start.py).
NO_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}


class Forked:
    """A process of the fork server, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, words, cwd, env, shortcuts=False):
        """Starts it; `shortcuts` is explained in `start`."""
        self.args, self.returncode = words, None
        out, self_out = os.pipe()
        err, self_err = os.pipe()
        server, more = _server(), {}
        if shortcuts:
            more = {"shortcuts": True, "executable": str(Path(server).with_name("python"))}
        with open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), self_out, self_err]
            self._connection, self._answers = ask(server, words, cwd, env, streams, **more)
        os.close(self_out)
        os.close(self_err)
        self.stdout, self.stderr = (os.fdopen(one, encoding="utf-8") for one in (out, err))
        self.pid = int(self._answers.readline())
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        answer = self._answers.readline()
        # Without an answer, the server is gone. No process exits with this status.
        self.returncode = int(answer) if answer else 1000
        self._answers.close()
        self._connection.close()
        self._over.set()

    def poll(self):
        """The exit status; None while it runs."""
        return self.returncode if self._over.is_set() else None

    def wait(self, timeout=None):
        """Waits until it has ended; returns the exit status."""
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Waits until it has ended; returns (standard output, standard error)."""
        texts = {}
        readers = [
            threading.Thread(
                target=lambda name=name: texts.update({name: self._rest(name)}), daemon=True
            )
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for reader in readers:
            reader.join()
        return texts.get("stdout", ""), texts.get("stderr", "")

    def _rest(self, name):
        stream = getattr(self, name)
        if stream.closed:
            return ""
        with stream:
            return stream.read()

    def send_signal(self, number):
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # It may have just ended.
                os.kill(self.pid, number)

    def kill(self):
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server():
    """Starts this process's fork server; returns the path of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="forks-", ignore_cleanup_errors=True)
    path = str(Path(folder.name) / "socket")
    write_stand_in(Path(folder.name) / "python", path)
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "forkserver.py"), path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout.readline() == "ready\n"

    def end():
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return path


def start(*words, cwd=ROOT, env=None, fresh=False, prefix=(), shortcuts=False):
    """Starts `python WORDS ...` as a separate process, with pipes for its output.

    Args:
      *words: arguments of the interpreter.
      cwd: working directory.
      env: variables in addition to this process's.
      fresh: start a new interpreter, which takes seconds longer. Variables that must be read early
        and a prefix have the same effect.
      prefix: words before the interpreter.
      shortcuts: its children are forked, too, and all of them skip the interpreter's shutdown.
        Signals do not reach its children.
    """
    environment = {**os.environ, **(env or {})}
    if (
        fresh
        or prefix
        or any(name.startswith(EARLY) and name != "PYTHONPATH" for name in env or ())
    ):
        return subprocess.Popen(
            [*prefix, sys.executable, *map(str, words)],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    return Forked(words, cwd, {**NO_HUGE_PAGES, **environment}, shortcuts)


def xla_flags(devices):
    """XLA_FLAGS of this process, with this number of virtual devices."""
    flag = f" --xla_force_host_platform_device_count={devices}"
    return {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flag * (devices > 1)}


def launch(module, *flags, devices=1, **how):
    """Runs a command of `experiments`; it may fail, but not with a traceback."""
    env = {**xla_flags(devices), **how.pop("env", {})}
    process = start("-m", f"experiments.{module}", *flags, env=env, shortcuts=True, **how)
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def train_flags(folder=None, preset="symbols", **options):
    """Flags of a tiny run; options by path."""
    overrides = [f"--config.{path}={value}" for path, value in options.items()]
    workdir = [] if folder is None else [f"--workdir={folder}"]
    return [f"--config=tests/tiny.py:{preset}", *workdir, *overrides]


def records(folder):
    """Lines of metrics, without measured speeds, which differ between identical runs."""
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_metrics(Path(folder) / "metrics.jsonl")
    ]


class Processes:
    """The processes of one run."""

    def __init__(
        self,
        workdir,
        flags,
        count=1,
        devices=1,
        own_flags=(),
        program=("-m", "experiments.train"),
        environment=(),
        prefix=(),
    ):
        """Starts them.

        Args:
          workdir: work directory of the run.
          flags: flags of all processes.
          count: number of processes.
          devices: virtual devices per process.
          own_flags: additional flags of each process.
          program: words after `python`.
          environment: variables in addition to this process's.
          prefix: words before `python`.
        """
        env = {**xla_flags(devices), **dict(environment)}
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
            self.running.append(start(*program, *words, env=env, prefix=prefix))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.running:
            process.kill()
            process.communicate()

    def wait(self, index=0, patience=PATIENCE):
        """Waits until one ends; returns (exit status, standard output, standard error)."""
        process = self.running[index]
        out, err = process.communicate(timeout=patience)
        return process.returncode, out, err

    def send(self, signal_number, index=0):
        """Sends a signal to one process."""
        self.running[index].send_signal(signal_number)


def start_injected(workdir, fault, at, flags, **settings):
    """Starts a run with an injected fault (`injected.py`)."""
    program = (str(INJECTED), fault, str(at))
    return Processes(workdir, flags, program=program, **settings)


def end(folder, flags, **settings):
    """Runs a single process; returns (exit status, standard output, standard error)."""
    with Processes(folder, flags, **settings) as process:
        return process.wait()


def only_message(err):
    """The error message, which must be the only one."""
    assert "Traceback" not in err, err
    assert "Exception" not in err, err
    assert err.count("error:") == 1, err
    return err[err.index("error:") :]


def free_port():
    """A port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=PATIENCE, pause=0.02):
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(pause)


def cpu_seconds_to_end(process, seconds=60):
    """CPU time that a process still uses until it ends, since others may keep the machine busy."""
    used = []

    def has_ended():
        with contextlib.suppress(OSError):  # It may have just ended.
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used.append(int(fields[11]) + int(fields[12]))
        return process.poll() is not None

    wait_for(has_ended, "the end of the process", seconds)
    return (max(used) - used[0]) / os.sysconf("SC_CLK_TCK") if used else 0


def unfinished(folder):
    """Names of checkpoints that are being written or were never completed."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}
