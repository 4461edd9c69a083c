"""The same function over many jobs, in worker processes or lanes, with the same results for any number of them."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from devices.support.errors import EdgesynthError, UserError
from devices.support.files import explain
from synth.training.device import CPU, Compute
from synth.training.lanes import Lanes

Shared = Mapping[str, torch.Tensor]
Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(EdgesynthError):
    """A worker process ended without an answer: killed, out of memory, or crashed."""


class WorkerTraceback(Exception):
    """Where in the worker an error was raised, as text."""

    def __str__(self) -> str:
        return "\n" + self.args[0]


class Pool:
    """`with Pool(Compute(2), {"images": images}) as pool: for result in pool.map(function, jobs): ...`

    compute: with one worker there is no process at all, the jobs run here; on a GPU workers are `lanes`. Every job runs
    with one torch thread, so that results do not depend on the number of workers. shared: big arrays that every job
    gets on the compute's device, handed over once as files that all workers map; a job must not change them. The
    processes are forked from one server that has torch imported and so share its memory; they import nothing of the
    caller's script or working folder. Ctrl-C ends them at once.
    """

    def __init__(self, compute: Compute, shared: Shared | None = None):
        if compute.workers < 1:
            raise UserError(f"{compute.workers} workers: use 1 or more")
        self._shared = dict(shared or {})
        self._workers: list[_Worker] = []
        self._closed = False
        self._mapping = False
        self._lanes: Lanes | None = None
        if compute.workers > 1 and compute.device == CPU:
            self._start(compute)
        else:
            if compute.device != CPU:
                self._lanes = Lanes(compute.workers, compute.device)
            self._shared = {name: tensor.to(compute.device) for name, tensor in self._shared.items()}

    def map(self, function: Callable[[Shared, Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """function(shared, job) of every job, in the order of the jobs, each as soon as all before it are there too.

        function: at the top level of an importable module. What it raises is raised here, and the jobs that were not
        begun are left; so they are when the caller stops early. WorkerDied, which closes the pool, when a process
        ended without an answer. One map at a time.
        """
        if self._closed:
            raise ValueError("the pool is closed")
        if not self._workers:
            yield from self._map_here(function, jobs)
            return
        if function.__module__ == "__main__":
            raise ValueError("workers import nothing of a script: put the function into a module")
        if self._mapping:
            raise ValueError("one map at a time: take all results of the first, or close it")
        self._mapping = True
        try:
            yield from self._map(function, jobs)
        except (WorkerDied, KeyboardInterrupt):
            self.close()
            raise
        finally:
            self._mapping = False

    def _map_here(self, function: Callable[[Shared, Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        if self._lanes is not None:
            yield from self._lanes.map(functools.partial(function, self._shared), jobs)
            return
        for job in jobs:
            with single_thread():
                result = function(self._shared, job)
            yield result

    def _map(self, function: Callable[[Shared, Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        for worker in self._workers:
            worker.forget()
        todo = iter(enumerate(jobs))
        done: dict[int, Result] = {}
        for worker in self._workers:
            worker.give(function, next(todo, None))
        for turn in range(len(jobs)):
            while turn not in done:
                for worker in _answering(self._workers):
                    number, result = worker.answer()
                    done[number] = result
                    worker.give(function, next(todo, None))
            yield done.pop(turn)

    def _start(self, compute: Compute) -> None:
        folder = Path(tempfile.mkdtemp(prefix="edgesynth-workers-"))
        try:
            _save(self._shared, folder)
            start_server()
            for _ in range(compute.workers):
                self._workers.append(_Worker(folder))
            for worker in self._workers:
                worker.answer()  # it has mapped the files
        except (OSError, EOFError) as error:
            self.close()
            raise WorkerDied(f"worker processes cannot be started ({error}): use --workers 1") from error
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what is mapped stays until the last worker ends

    def close(self) -> None:
        """End the workers at once; a closed pool cannot be used again."""
        self._closed = True
        if self._lanes is not None:
            self._lanes.close()
        while self._workers:
            self._workers.pop().end()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One torch thread inside: sums are then added in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_server() -> None:
    """Start the process that workers are forked from, which then imports torch; returns at once.

    Called early, that import runs beside the caller's own work; without, the first Pool waits for it.
    """
    context = _context()
    if context.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    context.set_forkserver_preload(["torch"])
    here = os.getcwd()
    with _interrupts_ignored(), _no_script():
        # The server has its working folder at the front of its path: give it one that holds no user's modules.
        os.chdir(os.sep)
        try:
            forkserver.ensure_running()
        finally:
            os.chdir(here)


class _Worker:
    """One process and the pipe to it. It answers once when it is ready, and once to every job.

    busy: an answer is still to come.
    """

    def __init__(self, folder: Path):
        self.pipe, theirs = _context().Pipe()
        self.process = _context().Process(target=_serve, args=(theirs, str(folder)), daemon=True)
        self.busy = True
        try:
            with _no_script():
                self.process.start()
        finally:
            theirs.close()

    def give(self, function: Callable[..., Any], job: tuple[int, Any] | None) -> None:
        """Send (number, job), or nothing when there is none."""
        if job is None:
            return
        # plain pickle: multiprocessing's own would move every tensor through a shared file descriptor
        request = pickle.dumps((function, *job), protocol=pickle.HIGHEST_PROTOCOL)
        try:
            self.pipe.send_bytes(request)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.death() from error
        self.busy = True

    def answer(self) -> tuple[int, Any]:
        """(number, result) of the job; raises what the job raised, WorkerDied when nothing will come."""
        good, number, value, trace = pickle.loads(self._receive())
        if good:
            return number, value
        raise value from WorkerTraceback(trace)

    def forget(self) -> None:
        """Wait for the answer that nobody wants any more, if there is one to come."""
        if self.busy:
            self._receive()

    def _receive(self) -> bytes:
        try:
            answer = self.pipe.recv_bytes()
        except (EOFError, ConnectionResetError) as error:
            raise self.death() from error
        self.busy = False
        return answer

    def death(self) -> WorkerDied:
        self.process.join(5)
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return WorkerDied("a worker process was killed, most likely for memory: use fewer workers")
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return WorkerDied(f"a worker process ended {how} without an answer: run again, with fewer workers")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


def _answering(workers: Sequence[_Worker]) -> list[_Worker]:
    """The busy workers that have answered or died; waits for one."""
    ready = wait([worker.pipe for worker in workers if worker.busy])
    return [worker for worker in workers if worker.pipe in ready]


def _save(shared: Shared, folder: Path) -> None:
    try:
        for name, tensor in shared.items():
            np.save(folder / f"{name}.npy", tensor.detach().cpu().contiguous().numpy(), allow_pickle=False)
    except OSError as error:
        raise explain(error, folder) from error


def _context() -> Any:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """A process that is started inside does not run the caller's script again, guarded by __name__ or not."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started inside ignores Ctrl-C from its first instruction: ending it is the parent's part."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, folder: str) -> None:
    """A worker's life: map the shared arrays, then answer jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    shared = {path.stem: _mapped(path) for path in sorted(Path(folder).glob("*.npy"))}
    pipe.send_bytes(pickle.dumps((True, -1, None, "")))
    while True:
        try:
            request = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(_respond(shared, request))


def _respond(shared: Shared, request: bytes) -> bytes:
    number = -1
    try:
        function, number, job = pickle.loads(request)
        return pickle.dumps((True, number, function(shared, job), ""), protocol=pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        trace = traceback.format_exc()
        try:
            answer = pickle.dumps((False, number, error, trace))
            pickle.loads(answer)  # some errors can be written but not read back
        except Exception:
            answer = pickle.dumps((False, number, RuntimeError(f"{type(error).__name__}: {error}"), trace))
        return answer


def _mapped(path: Path) -> torch.Tensor:
    """The array of a file, its pages shared by all who map it; writing would make a private copy of a page."""
    empty = path.stat().st_size <= 128  # nothing behind the header, which cannot be mapped
    array = np.load(path, mmap_mode=None if empty else "c", allow_pickle=False)
    return torch.from_numpy(array)


def _end_with_parent() -> None:
    """Even `kill -9` of the parent leaves no worker behind, in the middle of a job or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
