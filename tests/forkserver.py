"""Starts Python processes for the tests without seconds of imports.

The server has imported everything that launchers import, and forks. A child has its own
environment, folder, signals, standard streams, and interpreter shutdown. It inherits only what
Python and JAX read at startup (PYTHON*, JAX_*), see `launching.start`.

    python tests/forkserver.py SOCKET     exits when its standard input is closed
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings

LIBRARIES = (
    "absl.app", "haiku", "jax", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "ml_collections.config_flags", "optax", "orbax.checkpoint", "plotly", "rich.progress",
    "scipy.stats", "tensorboardX", "concurrent.futures.thread",
)  # fmt: skip


def preload():
    """Imports everything that launchers import, except TensorFlow."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import emergent_icl

    for module in pkgutil.walk_packages(emergent_icl.__path__, "emergent_icl."):
        # The flags of a command must be defined in its own process only.
        if not module.name.startswith(("emergent_icl.cli.", "emergent_icl.__main__")):
            importlib.import_module(module.name)
    for name in ("emergent_icl.cli.start", "emergent_icl.cli.tables"):
        importlib.import_module(name)
    # Children need not search these objects for garbage, least of all at exit.
    gc.freeze()


def serve(path):
    """Answers requests until standard input is closed; in each child, returns its request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)  # From a terminal; the client ends the server.
    children = {}
    while True:
        ready, _, _ = select.select([listener, woken, 0], [], [])
        if woken in ready:
            os.read(woken, 4096)
            tell_ends(children)
        if listener in ready:
            connection, _ = listener.accept()
            # The streams come with the first byte, sent alone: the rest may take several reads.
            _, streams, _, _ = socket.recv_fds(connection, 1, 3)
            text = connection.makefile().readline()
            with warnings.catch_warnings():
                # JAX warns of forking with threads; it has none before it looks for devices.
                warnings.simplefilter("ignore", RuntimeWarning)
                pid = os.fork()
            if pid == 0:
                for one in (listener, connection, *children.values()):
                    one.close()
                signal.set_wakeup_fd(-1)
                os.close(woken)
                os.close(waker)
                return json.loads(text), streams
            for stream in streams:
                os.close(stream)
            children[pid] = connection
            with contextlib.suppress(OSError):
                connection.sendall(f"{pid}\n".encode())
        if 0 in ready and not os.read(0, 1):
            os.killpg(0, signal.SIGKILL)  # No client is waiting for the remaining children.


def tell_ends(children):
    """Sends the exit status of every finished child to its client."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        # The client may be gone.
        with children.pop(pid) as connection, contextlib.suppress(OSError):
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request, streams):
    """Sets up this process as `python WORDS ...` would have started it."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    further = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [request["cwd"], *filter(None, further)]
    sys.orig_argv = [sys.executable, *request["words"]]
    if "cores" in request:
        os.sched_setaffinity(0, request["cores"])
    # A command measures its time from the import of this module.
    importlib.import_module("emergent_icl.cli.start").STARTED = time.monotonic()
    # Children that this process starts with its interpreter are forked, too.
    sys.executable = request.get("executable", sys.executable)


def run(words):
    """Runs `-m module ...`, `-c code ...` or `file ...` as the main module."""
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[0] = ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def run_to_an_end(words):
    """Runs and exits without interpreter shutdown, which takes half of a short command's time."""
    status = 0
    try:
        run(words)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    preload()
    own_request, own_streams = serve(sys.argv[1])
    become(own_request, own_streams)
    if own_request.get("shortcuts"):
        run_to_an_end(own_request["words"])
    run(own_request["words"])
