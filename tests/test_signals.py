"""Signals that stop a run: noted or raised, once; the second acts as it did before."""

import contextlib
import gc
import signal
import sys
import threading

import pytest

from jaxgan.run import signals
from jaxgan.run.signals import STOPPING, Stopped, at_once, handled, only_noted


@pytest.mark.parametrize("name", STOPPING)
def test_a_signal_is_noted_and_what_was_there_before_comes_back(name):
    number, before = getattr(signal, name), []
    ours = signal.signal(number, lambda *_: before.append(name))
    try:
        with handled() as noted:
            assert noted == []
            signal.raise_signal(number)
            assert (noted, before) == ([name], [])
            signal.raise_signal(number)  # a user who is out of patience
            assert (noted, before) == ([name], [name])
        signal.raise_signal(number)
        assert before == [name, name]
    finally:
        signal.signal(number, ours)


def test_a_signal_that_was_ignored_stays_ignored():
    """As SIGHUP is under nohup."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled() as noted, at_once():
            signal.raise_signal(signal.SIGHUP)
            assert noted == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, ours)


def test_another_thread_than_the_main_one_handles_no_signals():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with handled() as noted:
            seen.append((noted, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]


def test_where_nothing_is_to_be_saved_a_signal_ends_the_program_at_once():
    with handled(), pytest.raises(Stopped, match="SIGUSR1"), at_once():
        signal.raise_signal(signal.SIGUSR1)
        pytest.fail("it went on")


def test_a_signal_that_came_too_early_is_raised_where_it_may_be():
    with handled() as noted:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM"), at_once():
            pytest.fail("it went on")
        assert noted == ["SIGTERM"]


def test_once_there_is_something_to_save_signals_are_noted_for_good():
    with handled() as noted, at_once():
        with at_once(), at_once(False):
            only_noted()
        signal.raise_signal(signal.SIGTERM)
        assert noted == ["SIGTERM"]
        assert signals.when(KeyboardInterrupt()) == "at once; whole checkpoints are kept"
        assert signals.when(Stopped("SIGTERM")) == "before there was anything to save"
    assert signals.when(KeyboardInterrupt()) == "before there was anything to save"  # the next run


def test_an_import_is_not_interrupted_but_what_comes_after_it(tmp_path, monkeypatch):
    """An extension of C's would print a page, and its importer say that it is not installed."""
    text = "import signal; signal.raise_signal(signal.SIGTERM); done = True"
    (tmp_path / "interrupted_import.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with handled() as noted, pytest.raises(Stopped, match="SIGTERM"), at_once():
        import interrupted_import  # type: ignore[import-not-found]

        assert interrupted_import.done and noted == []
        threading.Event().wait(60)  # it comes again in a moment
    assert noted == ["SIGTERM"]


def test_errors_that_follow_from_a_signal_are_no_news():
    with handled() as noted, pytest.raises(Stopped, match="SIGHUP"), at_once():
        with contextlib.suppress(Stopped):
            signal.raise_signal(signal.SIGHUP)
        signals.raise_if_early()
    signals.raise_if_early()
    assert noted == ["SIGHUP"]


def test_a_block_within_another_has_its_handlers_and_list():
    with handled() as outer:
        with handled() as inner:
            assert inner is outer
        signal.raise_signal(signal.SIGUSR1)
        assert outer == ["SIGUSR1"]


def test_a_signal_that_comes_within_a_callback_of_the_collector_is_raised_after_it():
    """Python swallows what such a callback raises, and JAX has one."""

    def callback(phase, info):
        if phase == "start" and sent == []:
            sent.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    sent: list[int] = []
    hook, gaps = sys.unraisablehook, threading.Event()
    gc.callbacks.append(callback)
    try:
        with handled() as noted, pytest.raises(Stopped, match="SIGTERM"), at_once():
            gc.collect()
            gaps.wait(60)  # it comes again in a moment
            pytest.fail("it was lost")
        assert noted == ["SIGTERM"] and sys.unraisablehook is hook
    finally:
        gc.callbacks.remove(callback)


def test_the_status_is_that_of_shells():
    assert [signals.status(name) for name in ("SIGINT", "SIGTERM")] == [130, 143]
