"""Which signals are requests, and which are none of ours."""

import signal

import pytest
from launching import start

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
    """(what the process takes for a request, its exit status) after these signals."""
    process = start("-c", PROGRAM, names, *how)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return out.strip(), process.returncode


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"])
def test_the_first_signal_is_a_request(name):
    assert received(name) == (name, 0)


def test_the_second_one_is_an_order():
    assert received("SIGINT SIGTERM") == ("", -signal.SIGTERM)


def test_a_schedulers_word_is_followed_by_its_sigterm_in_any_order():
    assert received("SIGUSR2 SIGTERM") == ("SIGUSR2", 0)
    assert received("SIGTERM SIGUSR2 SIGUSR2") == ("SIGTERM", 0)
    assert received("SIGUSR2 SIGTERM SIGTERM") == ("", -signal.SIGTERM)


def test_a_lost_terminal_is_told_of_twice_and_cannot_be_written_to():
    assert received("SIGHUP SIGHUP", "no terminal") == ("SIGHUP", 0)


def test_under_nohup_a_lost_terminal_is_no_request():
    assert received("SIGHUP", "nohup") == ("None", 0)
    assert received("SIGHUP SIGINT", "nohup") == ("SIGINT", 0)


def test_in_the_background_of_a_script_sigint_is_a_request_all_the_same():
    assert received("SIGINT", "background") == ("SIGINT", 0)
