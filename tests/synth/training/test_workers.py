"""The pool: the same results for any number of workers, and no hang, orphan or noise when something goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import jobs_for_workers as jobs
import numpy as np
import psutil
import pytest
import torch

from devices.support.errors import UserError
from synth.training.device import Compute
from synth.training.workers import Pool, WorkerDied, single_thread

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not count."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def gone(pids, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(alive(pid) for pid in pids):
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


@pytest.fixture(scope="module")
def pool():
    random = torch.Generator().manual_seed(0)
    shared = {
        "numbers": torch.arange(10.0),
        "images": torch.randn(50, 1, 6, 6, generator=random),
        "labels": torch.arange(50) % 3,
        "nothing": torch.zeros(0, 3),
    }
    with Pool(Compute(2), shared) as two:
        yield two, Pool(Compute(1), shared)


def test_results_come_in_the_order_of_the_jobs(pool):
    two, one = pool
    expected = [(job, 45.0 * job) for job in range(12)]
    assert list(two.map(jobs.scaled, range(12))) == list(one.map(jobs.scaled, range(12))) == expected
    assert list(two.map(jobs.scaled, [])) == [] and len(set(two.map(jobs.identify, range(8)))) == 2


def test_training_is_the_same_bit_for_bit_here_and_there(pool):
    two, one = pool
    there, here = list(two.map(jobs.short_training, range(3))), list(one.map(jobs.short_training, range(3)))
    for (a, threads_a), (b, threads_b) in zip(there, here, strict=True):
        assert torch.equal(a, b) and threads_a == threads_b == 1
    assert not torch.equal(there[0][0], there[1][0])


def test_results_come_while_others_are_still_at_work(pool, tmp_path):
    """The second job waits for a file that is written once the first result is here."""
    file = tmp_path / "the first is here"
    iterator = pool[0].map(jobs.wait_for, [None, file, None])
    assert next(iterator) is None
    file.touch()
    assert list(iterator) == [True, None]


def test_an_error_of_a_job_is_raised_and_the_pool_can_go_on(pool):
    found = []
    with pytest.raises(UserError, match="job 2 is no good") as caught:
        for result in pool[0].map(jobs.fail, range(6)):
            found.append(result)  # noqa: PERF402
    assert found == [0, 1][: len(found)]
    assert "in fail" in str(caught.value.__cause__)  # the worker's traceback
    assert [number for number, _ in pool[0].map(jobs.scaled, range(5))] == list(range(5))


def test_an_error_that_cannot_be_sent_is_told():
    with Pool(Compute(2)) as pool, pytest.raises(RuntimeError, match="Odd: one and two"):
        list(pool.map(jobs.fail_oddly, range(2)))


def test_a_worker_that_dies_is_an_error_and_no_hang():
    with Pool(Compute(2)) as pool:
        with pytest.raises(WorkerDied, match="was killed, most likely for memory"):
            list(pool.map(jobs.die, range(4)))
        with pytest.raises(ValueError, match="closed"):
            next(pool.map(jobs.identify, range(2)))


def test_a_caller_may_stop_early_or_take_exactly_what_there_is(pool):
    iterator = pool[0].map(jobs.scaled, range(6))
    assert next(iterator)[0] == 0
    with pytest.raises(ValueError, match="one map at a time"):
        next(pool[0].map(jobs.scaled, range(2)))
    iterator.close()
    iterator = pool[0].map(jobs.scaled, range(3))
    assert [next(iterator)[0] for _ in range(3)] == [0, 1, 2]
    iterator.close()
    assert [number for number, _ in pool[0].map(jobs.scaled, range(7))] == list(range(7))


def test_closing_ends_workers_in_the_middle_of_a_job():
    with Pool(Compute(2)) as pool:
        pids = set(pool.map(jobs.identify, range(6)))
        iterator = pool.map(jobs.wait_after_the_first, range(4))
        next(iterator)
    assert len(pids) == 2 and gone(pids)


def test_fewer_than_one_worker():
    with pytest.raises(UserError, match="-1 workers: use 1 or more"):
        Pool(Compute(-1))


def test_a_full_disk_is_said_and_leaves_nothing(monkeypatch, tmp_path):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="the disk is full"):
        Pool(Compute(2), {"numbers": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def script(tmp_path: Path, text: str) -> list[str]:
    """A user's own script, without a guard, in a folder of its own."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "mine.py").write_text(textwrap.dedent(text))
    return [sys.executable, str(folder / "mine.py")]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}


def test_a_users_own_modules_and_unguarded_script_are_left_alone(tmp_path):
    command = script(tmp_path, """
        MARK = "the user's script"
        import jobs_for_workers
        from synth.training.device import Compute
        from synth.training.device import Compute
        from synth.training.workers import Pool
        print("once")
        with Pool(Compute(2)) as pool:
            for synth, devices, torch, mark in pool.map(jobs_for_workers.origin, range(2)):
                print(synth, devices, torch, mark, sep="|")
    """)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("synth", "devices", "export", "torch", "numpy", "signal", "pickle"):
        (work / f"{name}.py").write_text("raise SystemExit('a user module was imported')\n")
    ran = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.split("\n")
    assert lines[0] == "once" and lines[3] == ""
    for line in lines[1:3]:
        *files, mark = line.split("|")
        assert mark == "None" and not any(file.startswith(str(work)) for file in files)


WAITING = """
    import os
    import jobs_for_workers
    from synth.training.device import Compute
    from synth.training.workers import Pool
    with Pool(Compute(2)) as pool:
        print(*sorted(set(pool.map(jobs_for_workers.identify, range(8)))), flush=True)
        try:
            list(pool.map(jobs_for_workers.wait_long, range(2)))
        except KeyboardInterrupt:
            print("stopped", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path, how):
    command = script(tmp_path, WAITING)
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    time.sleep(0.3)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: parent, server and workers
    else:
        process.kill()
    out, err = process.communicate(timeout=30)
    assert gone(pids)
    if how == signal.SIGINT:
        assert out == "stopped\n" and err == "" and process.returncode == 0
