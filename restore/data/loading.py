"""Batches for the training loop, drawn in its own process or ahead of it in workers.

Workers answer over a pipe each, as plain arrays: neither shared memory nor a lock is needed that a killed one could
hold, and its end is seen where the next batch is asked for, not in the middle of a training step.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.data.samples import Batch, Request, TrainSamples, collate
from restore.errors import DeviceError, RestoreError
from restore.images.opencv import cv2

_AHEAD = 2  # batches asked for at a time of each worker
_SECONDS_TO_END = 5.0
_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)  # which may still want a batch before it stops


def batches(samples: TrainSamples, requests: Iterable[Sequence[Request]], num_workers: int = 0) -> Iterator[Batch]:
    """Draw a batch for each list of requests, in order; close the iterator to end the workers.

    Args:
        samples: what is drawn from.
        requests: with workers, at most two lists for each of them are taken ahead.
        num_workers: processes that draw, each of one thread; with 0 the samples are drawn when they are asked for.

    Yields:
        Batches in channels_last, the same whatever the number of workers.

    Raises:
        NothingToDoError: too many pictures cannot be read.
        UsageError: the pictures of a pair differ in size.
        DeviceError: a worker was killed, or cannot be started.
    """
    if not num_workers:
        for request in requests:
            yield collate([samples[one] for one in request])
        return
    workers: list[_Worker] = []
    end = Finalize(None, _end, args=(workers,), exitpriority=1)  # also where the program ends with this left open
    try:
        workers.extend(_start(samples, num_workers) for _ in range(num_workers))
        yield from _in_turn(workers, iter(requests), samples)
    finally:
        end()


class _Answer(NamedTuple):
    """Degraded and reference (N,p,p,3), told (N,), or an error instead; and the bad pictures found on the way."""

    arrays: tuple[np.ndarray[Any, Any], ...]
    bad: dict[str, str]
    error: Exception | None


class _Worker(NamedTuple):
    process: multiprocessing.process.BaseProcess
    pipe: Connection


def _in_turn(
    workers: Sequence[_Worker], requests: Iterator[Sequence[Request]], samples: TrainSamples
) -> Iterator[Batch]:
    """Ask the workers in turn, a few requests ahead, and yield their answers in the same order."""
    turns, waiting = cycle(workers), deque[_Worker]()
    is_over = False
    while True:
        while not is_over and len(waiting) < _AHEAD * len(workers):
            request = next(requests, None)
            is_over = request is None
            if request is not None:
                worker = next(turns)
                _send(worker, request)
                waiting.append(worker)
        if not waiting:
            return
        answer = _receive(waiting.popleft())
        samples.pictures.note(answer.bad)
        if answer.error:
            raise answer.error
        degraded, reference, told = (torch.from_numpy(array) for array in answer.arrays)
        yield Batch(degraded.permute(0, 3, 1, 2), told, reference.permute(0, 3, 1, 2))


def _start(samples: TrainSamples, num_workers: int) -> _Worker:
    """Start a worker from a clean process, which holds no threads, locks or open files of this one."""
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, samples, num_workers), daemon=True)
    try:
        with _signals_blocked():  # the worker inherits this
            process.start()
    except (OSError, EOFError) as error:
        ours.close()
        raise DeviceError(f"a data worker cannot be started ({error}); go on with --set data.workers=0") from error
    finally:
        theirs.close()
    return _Worker(process, ours)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    resource_tracker.ensure_running()  # else it starts with the first process, and unblocks them
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _context() -> ForkServerContext | SpawnContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():  # as on Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that torch is imported once, not by each worker
    return context


def _work(pipe: Connection, samples: TrainSamples, num_workers: int) -> None:
    """Answer requests until the other end is closed, by a parent that ends or is killed."""
    for signum in _LEFT_TO_PARENT:
        signal.signal(signum, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    samples.pictures.source.divide_memory(num_workers)
    try:
        while True:
            pipe.send(_answer(samples, pipe.recv()))
    except (EOFError, OSError):
        return


def _answer(samples: TrainSamples, request: Sequence[Request]) -> _Answer:
    known = set(samples.pictures.bad)
    arrays: tuple[np.ndarray[Any, Any], ...] = ()
    error: Exception | None = None
    try:
        batch = collate([samples[one] for one in request])
        arrays = _to_array(batch.degraded), _to_array(batch.reference), batch.told.numpy()
    except RestoreError as raised:
        error = raised
    except Exception as raised:  # noqa: BLE001  the parent raises it, where its user sees it
        error = RuntimeError(f"in a data worker: {type(raised).__name__}: {raised}")
    return _Answer(arrays, {name: why for name, why in samples.pictures.bad.items() if name not in known}, error)


def _to_array(images: Tensor) -> np.ndarray[Any, Any]:
    return images.permute(0, 2, 3, 1).numpy()


def _send(worker: _Worker, request: Sequence[Request]) -> None:
    try:
        worker.pipe.send(list(request))
    except OSError as error:
        raise _killed(worker) from error


def _receive(worker: _Worker) -> _Answer:
    try:
        answer: _Answer = worker.pipe.recv()
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise _killed(worker) from error
    return answer


def _killed(worker: _Worker) -> DeviceError:
    worker.process.join(_SECONDS_TO_END)
    return DeviceError(
        f"a data worker ended too early (exit code {worker.process.exitcode}), perhaps for want of memory; "
        "go on with --set data.workers=0"
    )


def _end(workers: Sequence[_Worker]) -> None:
    """Close the pipes, which ends the workers, and kill those that do not end."""
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_SECONDS_TO_END)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
