"""Lanes, on a CPU: threads and baton are the same, the streams are not there."""

from __future__ import annotations

import threading
import time

import pytest

from synth.training.device import Compute
from synth.training.lanes import LaneClosed, Lanes, check_open, wait_until
from synth.training.workers import Pool


def rest():
    until = time.monotonic() + 0.01
    wait_until(lambda: time.monotonic() > until)


@pytest.fixture
def lanes():
    three = Lanes(3, "cpu")
    yield three
    three.close()


def test_results_come_in_the_order_of_the_jobs(lanes):
    begun = threading.Event()

    def slow_first(job):
        if job == 0:
            wait_until(begun.is_set)
        begun.set()
        return job * job

    assert list(lanes.map(slow_first, range(7))) == [job * job for job in range(7)]
    assert list(lanes.map(slow_first, [3])) == [9]  # once more


def test_one_works_at_a_time_and_others_go_on_while_it_waits(lanes):
    working, most, ready = [], [], set()

    def job(number):
        for _ in range(20):
            working.append(number)
            most.append(len(working))
            time.sleep(0.0002)
            working.remove(number)
            ready.add(number)
            wait_until(lambda: len(ready) == 3)  # never, if one waited for another to end
        return number

    assert list(lanes.map(job, range(3))) == [0, 1, 2]
    assert set(most) == {1}


def test_what_a_job_raises_is_raised_here_and_ends_the_others(lanes):
    ended, begun = [], set()

    def job(number):
        begun.add(number)
        if number == 0:
            wait_until(lambda: len(begun) == 3)
            raise ValueError("the first")
        try:
            while True:
                check_open()
                rest()
        except LaneClosed:
            ended.append(number)
            raise

    with pytest.raises(ValueError, match="the first"):
        list(lanes.map(job, range(8)))
    assert {1, 2} <= set(ended) and len(begun) <= 4  # the rest never began


def test_a_caller_that_stops_early_ends_what_runs(lanes):
    def job(number):
        while number:
            check_open()
            rest()
        return number

    results = lanes.map(job, range(4))
    assert next(results) == 0
    results.close()  # would never return if a job went on


def test_outside_a_lane_nothing_is_closed_and_waiting_is_waiting():
    check_open()
    start = time.monotonic()
    rest()
    assert time.monotonic() > start + 0.01


def test_a_pool_on_another_device_works_in_lanes():
    here = threading.get_ident()
    with Pool(Compute(2, "meta")) as pool:
        assert here not in list(pool.map(lambda shared, job: threading.get_ident(), range(4)))
