"""The client of the fork server (forkserver.py); imports only what it needs, to start quickly."""

import json
import os
import socket
import sys

# A program in place of the interpreter: `python WORDS ...`, but forked.
SCRIPT = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
import forking
sys.exit(forking.stand_in({server!r}))
"""


def ask(server, words, cwd, env, streams, **more):
    """Starts a process with three streams; returns the connection and its lines (first the pid)."""
    request = {"words": [str(word) for word in words], "cwd": str(cwd), "env": env, **more}
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    # The streams come with the first byte, sent separately: the rest may take several reads.
    socket.send_fds(connection, [b"!"], streams)
    connection.sendall(json.dumps(request).encode() + b"\n")
    return connection, connection.makefile()


def stand_in(server):
    """Runs this process's arguments in a forked interpreter; returns the exit status."""
    more = {"shortcuts": True}
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        more["cores"] = list(os.sched_getaffinity(0))
    _, lines = ask(server, sys.argv[1:], os.getcwd(), dict(os.environ), [0, 1, 2], **more)
    lines.readline()
    return int(lines.readline())


def write_stand_in(path, server):
    """Writes that program."""
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(path, "w", encoding="utf-8") as file:
        file.write(SCRIPT.format(python=sys.executable, folder=folder, server=server))
    os.chmod(path, 0o755)
