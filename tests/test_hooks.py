"""Hooks: what a run does between its steps, and how fast it says it was."""

import numpy as np
import pytest

from jaxgan.run import dispatch, hooks
from jaxgan.run.hooks import Clock, Hook, Moment


class Log:
    def __init__(self):
        self.records, self.grids = [], []

    def metrics(self, record):
        self.records.append(record)

    def wait(self): ...

    def samples(self, step, examples, folder):
        self.grids.append((step, examples, folder))


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand, in seconds."""
    time = [1.0]
    monkeypatch.setattr(hooks.time, "perf_counter", lambda: time[0])
    return time


def test_a_rate_leaves_out_the_first_dispatch_which_compiles(now):
    clock = Clock(batch_size=8)
    now[0] = 100.0
    clock.dispatched(1)
    assert clock.rate(1) == 0.0
    now[0] = 102.0
    clock.dispatched(5)
    assert clock.rate(5) == 8 * 4 / 2
    now[0] = 103.0
    assert clock.rate(15) == 8 * 10 / 1


def test_seconds_in_which_no_step_could_run_count_for_no_rate(now):
    clock = Clock(batch_size=8)
    clock.skip(50.0)  # before the first dispatch there is nothing to leave out
    now[0] = 1.0
    clock.dispatched(1)
    now[0] = 5.0
    clock.skip(2.0)
    assert clock.rate(9) == 8 * 8 / 2


def test_the_seconds_of_a_run_begin_with_its_first_step_and_go_on_where_it_was_stopped(now):
    clock = Clock(8, before=30.0)
    now[0] = 100.0
    clock.begin()
    assert clock.seconds() == 30.0
    now[0] = 104.0
    clock.skip(2.0)  # of which no rate is taken, but which passed
    assert clock.seconds() == 34.0


def test_a_record_holds_the_step_the_metrics_and_the_rate(now):
    log, clock = Log(), Clock(8)
    clock.dispatched(1)
    now[0] = 3.0
    hooks.logging(log, 5, clock, steps_per_epoch=10).do(Moment(5, None, {"loss": 0.5}))
    time = {"seconds": 2.0, "examples_per_second": 16.0}
    assert log.records == [{"step": 5, "epoch": 0.5, "loss": 0.5, **time}]


def test_a_process_that_does_not_write_makes_no_samples():
    log = Log()
    hooks.sampling_every(log, 5, None).do(Moment(5, None, {}))
    assert log.grids == []
    sampler = hooks.Samples(lambda state: {"": {"image": state}}, {})
    hooks.sampling_every(log, 5, sampler).do(Moment(5, "a state", {}))
    assert log.grids == [(5, {"image": "a state"}, "")]


@pytest.mark.parametrize("answer", [None, False, 0, np.bool_(False)])
def test_a_callback_that_says_nothing_stops_nothing(answer):
    stopped = []
    hooks.calling_back(lambda step, metrics: answer, 5, stopped).do(Moment(5, None, {}))
    assert stopped == []


def test_a_callback_that_says_something_true_stops_the_run():
    stopped = []
    hooks.calling_back(lambda step, metrics: np.bool_(True), 5, stopped).do(Moment(5, None, {}))
    assert stopped == ["the callback"]


def test_a_hook_need_only_do_what_it_does():
    hook = Hook(3)
    assert hook.do(None) is hook.before(None) is hook.after(None) is None and hook.end() == []


@pytest.mark.parametrize(
    ("asked", "platform", "intervals", "count"),
    [
        (None, "cpu", [50, 500], 1),
        (None, "gpu", [50, 500, 500], 25),
        (None, "gpu", [10, 500], 10),  # a dispatch of 25 would fit into no interval
        (None, "gpu", [30, 500], 10),
        (None, "gpu", [7], 7),
        (5, "cpu", [7], 5),
    ],
)
def test_a_dispatch_holds_what_fills_the_intervals(asked, platform, intervals, count):
    assert dispatch.steps_per_call(asked, platform, intervals) == count
