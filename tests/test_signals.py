"""Signals that stop a run: the first is noted, the second acts as it did before."""

import signal
import threading

import pytest

from jaxgan.run.signals import STOPPING, stop_signals


@pytest.mark.parametrize("name", STOPPING)
def test_a_signal_is_noted_and_what_was_there_before_comes_back(name):
    number, before = getattr(signal, name), []
    ours = signal.signal(number, lambda *_: before.append(name))
    try:
        with stop_signals() as stopped:
            assert stopped == []
            signal.raise_signal(number)
            assert (stopped, before) == ([name], [])
            signal.raise_signal(number)  # a user who is out of patience
            assert (stopped, before) == ([name], [name])
        signal.raise_signal(number)
        assert before == [name, name]
    finally:
        signal.signal(number, ours)


def test_a_signal_that_was_ignored_stays_ignored():
    """As SIGHUP is under nohup."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert stopped == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, ours)


def test_another_thread_than_the_main_one_handles_no_signals():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with stop_signals() as stopped:
            seen.append((stopped, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]
