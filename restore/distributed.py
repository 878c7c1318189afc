"""Several processes that train as one: torchrun's environment, what they agree on, and starting them here."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from restore.errors import DeviceError, TeamError, UsageError, brief

if dist.is_available():
    # Its functions take the group of the moment of their import as a default. Imported later (by torch.compile's
    # modules, at an optimiser's first step) they would keep the team's, whose threads then outlive it and now and then
    # abort the process at its end.
    import torch.distributed.nn

SECONDS_TO_SAVE = 300  # for a stopped process, before it is killed
TIMEOUT = timedelta(minutes=5)  # after which a rank that waits for a dead one gives up

_BY_TORCHRUN = "start by torchrun, which sets all of its variables, or unset it"


@dataclass(frozen=True)
class Team:
    """The processes of one training run.

    Attributes:
        rank: number of this one; 0 alone writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over the team.

        One exchange after the backward pass: our networks have a few megabytes of gradients, and the buckets of
        DistributedDataParallel, which overlap the two, do not keep channels_last.
        """
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        everything = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(everything)
        everything /= self.size
        parts = torch.split(everything, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, *values: float) -> tuple[float, ...]:
        """Return the sums over the team of one number or more, so that every process decides alike."""
        if self.size == 1:
            return values
        numbers = torch.tensor(values, dtype=torch.float64, device=_communication_device())
        dist.all_reduce(numbers)
        return tuple(numbers.tolist())


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Join the processes that torchrun started; alone where it did not.

    Args:
        device: gloo connects processes on CPUs, NCCL those on GPUs.

    Raises:
        TeamError: another process died or cannot be reached.
        UsageError: the environment is half that of torchrun.
    """
    if not is_in_team():
        yield Team()
        return
    try:
        _meet(device)
        yield Team(dist.get_rank(), dist.get_world_size())
    except (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError) as error:
        raise TeamError(f"rank {os.environ.get('RANK')}: lost the other processes; resume the run") from error
    except RuntimeError as error:
        if "gloo" not in str(error).lower() and "connection" not in str(error).lower():
            raise
        raise TeamError(f"rank {os.environ.get('RANK')}: lost the other processes; resume the run") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(device: torch.device) -> None:
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except ValueError as error:  # a variable is missing, or no number
        raise UsageError(f"WORLD_SIZE={_world_size()} is set, but: {brief(error)}; {_BY_TORCHRUN}") from error


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process: in a team on GPUs each has its own, by torchrun's LOCAL_RANK.

    Raises:
        UsageError: that is no number.
        DeviceError: this machine has fewer GPUs than processes.
    """
    if device != torch.device("cuda") or not is_in_team():  # cuda:2 was meant
        return device
    try:
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK") or "0"))
    except ValueError as error:
        raise UsageError(f"LOCAL_RANK={os.environ['LOCAL_RANK']} is no number; {_BY_TORCHRUN}") from error
    if (num_gpus := torch.cuda.device_count()) <= own.index:
        reason = f"{own} is meant for this process (LOCAL_RANK), and there are only {num_gpus} CUDA devices"
        raise DeviceError(f"{reason}; start no more processes than that on a machine, or choose a device")
    torch.cuda.set_device(own)
    return own


def is_in_team() -> bool:
    """Return whether torchrun started this process among others."""
    return _world_size() > 1


def _world_size() -> int:
    """Return how many processes the environment speaks of.

    Raises:
        UsageError: it is no number.
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal():
        raise UsageError(f"WORLD_SIZE={text}: no number of processes; {_BY_TORCHRUN}")
    return int(text)


def leads() -> bool:
    """Return whether this process is alone or the first of its team."""
    return not is_in_team() or os.environ.get("RANK") == "0"


def number_of_processes(text: str, device: torch.device) -> int:
    """Read the value of --processes: a number, or `auto` for one on each GPU or CPU core.

    Raises:
        UsageError: it is neither, or more than there are GPUs to compute on.
    """
    on_cuda = device.type == "cuda"
    num_gpus = (torch.cuda.device_count() if device.index is None else 1) if on_cuda else 0
    if text == "auto":
        if on_cuda:
            return num_gpus
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--processes {text}: choose auto or a number from 1")
    if on_cuda and int(text) > num_gpus:
        raise UsageError(f"--processes {text}: each takes a GPU, and {num_gpus} can be had as {device}; choose auto")
    return int(text)


def launch(num_processes: int, arguments: Sequence[str]) -> int:
    """Run `python -m restore ARGUMENTS` in several processes on this machine and return their exit code.

    Each has one CPU thread: processes that compute their own samples share the cores better than threads that share
    every layer. A process that dies ends the others; so does a signal to this one.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415  slow to import
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415  slow to import
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415  see above

    logging.disable()  # the processes say what happened; some of elastic's loggers have a level of their own
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    patience: dict[str, Any] = {"shutdown_timeout": SECONDS_TO_SAVE}  # which torch 2.10 does not know yet
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    config = LaunchConfig(
        run_id="restore",
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.5,
        **{name: value for name, value in patience.items() if name in known},
    )
    try:
        elastic_launch(config, sys.executable)("-m", "restore", *arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 1), 1)
    except SignalException as stopped:  # the processes have saved their state
        return 128 + int(stopped.sigval)
    return 0


def _communication_device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
