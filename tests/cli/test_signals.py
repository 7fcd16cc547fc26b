"""Which signals request a stop, which stop at once, and which are ignored."""

import signal

import pytest
from launching import PATIENCE, start

PROGRAM = """
import os, signal, sys
from emergent_icl.cli.signals import StopSignals
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if "background" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if "no terminal" in sys.argv:
    os.close(2)
signals = StopSignals()
signals.install()
for name in sys.argv[1].split():
    os.kill(os.getpid(), getattr(signal, name))
found = signals.poll()
print(found and found.name)
"""


def received(names, *how):
    """(signal that the process took as a request, exit status) after these signals."""
    process = start("-c", PROGRAM, names, *how)
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err
    return out.strip(), process.returncode


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"])
def test_the_first_signal_requests_a_stop(name):
    assert received(name) == (name, 0)


def test_the_second_signal_stops_at_once():
    assert received("SIGINT SIGTERM") == ("", -signal.SIGTERM)


def test_a_schedulers_warning_and_sigterm_may_come_in_any_order():
    assert received("SIGUSR2 SIGTERM") == ("SIGUSR2", 0)
    assert received("SIGTERM SIGUSR2 SIGUSR2") == ("SIGTERM", 0)
    assert received("SIGUSR2 SIGTERM SIGTERM") == ("", -signal.SIGTERM)


def test_a_lost_terminal_sends_two_signals_and_accepts_no_output():
    assert received("SIGHUP SIGHUP", "no terminal") == ("SIGHUP", 0)


def test_under_nohup_a_lost_terminal_is_ignored():
    assert received("SIGHUP", "nohup") == ("None", 0)
    assert received("SIGHUP SIGINT", "nohup") == ("SIGINT", 0)


def test_sigint_requests_a_stop_even_in_a_background_job():
    assert received("SIGINT", "background") == ("SIGINT", 0)
