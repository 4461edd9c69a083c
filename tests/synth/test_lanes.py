"""Lanes, on a CPU: the threads are the same, the streams are not there."""

from __future__ import annotations

import threading
import time

import pytest

from synth.device import Compute
from synth.lanes import LaneClosed, check_open, side_by_side
from synth.workers import Pool


def test_results_come_in_the_order_of_the_jobs():
    def slow_first(job):
        time.sleep(0.05 if job == 0 else 0)
        return job * job

    assert list(side_by_side(slow_first, range(7), 3, "cpu")) == [job * job for job in range(7)]


def test_as_many_run_at_once_as_there_are_lanes():
    together = threading.Barrier(3, timeout=10)
    assert len(list(side_by_side(lambda job: together.wait(), range(3), 3, "cpu"))) == 3


def test_what_a_job_raises_is_raised_here_and_ends_the_others():
    ended = []

    def job(number):
        if number == 0:
            raise ValueError("the first")
        try:
            for _ in range(1000):
                check_open()
                time.sleep(0.01)
        except LaneClosed:
            ended.append(number)
            raise

    with pytest.raises(ValueError, match="the first"):
        list(side_by_side(job, range(8), 3, "cpu"))
    assert set(ended) <= {1, 2, 3} and len(ended) >= 2  # the rest never began


def test_a_caller_that_stops_early_ends_what_runs():
    def job(number):
        while number:
            check_open()
            time.sleep(0.01)
        return number

    results = side_by_side(job, range(4), 2, "cpu")
    assert next(results) == 0
    results.close()  # would never return if a job went on


def test_outside_a_lane_nothing_is_closed():
    check_open()


def test_a_pool_on_another_device_works_in_lanes():
    here = threading.get_ident()
    pool = Pool(Compute(2, "meta"))
    names = list(pool.map(lambda shared, job: threading.get_ident(), range(4)))
    assert here not in names
