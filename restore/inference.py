"""A network made ready to restore pictures of any size, kind and depth; it knows no files."""

from __future__ import annotations

import copy
import math
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from restore.ensemble import ENSEMBLES, mean_over_views
from restore.errors import DeviceError, ImageError, UsageError
from restore.memory import free_memory, give_back_freed_memory, is_out_of_memory, keep_freed_memory
from restore.models import NAFNet
from restore.models.layers import enlarged, halved, mirrored_to_multiple
from restore.tiling import Tiling, restore_strips
from restore.types import LocalStatistics, Precision, Task, as_word
from restore.weights import PUBLISHED_TLC_PX, WeightsInfo, load_weights

Array = npt.NDArray[Any]
Image = TypeVar("Image", Array, Tensor)

MIN_TILE = 256  # smaller ones would show: their borders spoil too much
MAX_AUTO_TILE = 1024
OVERLAP = 128
OVERLAP_OF_SCALES = 192  # what a network changes at smaller sizes reaches further
ROWS_HALVED = 512  # of a picture that become floats at a time
TILE_MULTIPLE = 64  # at least; larger where a network's strides or cells of attention are
TLC_LIMIT = 2.0  # factors thrice the global ones paint mosaics; chosen on made-up nets, no published one was at hand
USUAL = -1.0, 2.0  # values that networks see: white is 1, and noise goes beyond; what lies further out is added again
EXPLODED = 5.0  # times the largest value: no restoration changes a pixel by that much
BYTES_PER_PIXEL = 1200  # measured for a NAFNet of width 32 at full resolution, float32

_ONE_AT_A_TIME = threading.RLock()  # under TLC, which keeps in the network what it averages over and finds there

_INTEGERS = (torch.uint8, torch.uint16)
_DEPTHS = ("float32", "uint8", "uint16")
_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def load(
    name_or_path: str | Path = "denoise",
    *,
    task: Task | None = None,
    device: str = "auto",
    precision: Precision | str = Precision.AUTO,
    tile: int | Literal["auto", "off"] = "auto",
    tlc: LocalStatistics | str = LocalStatistics.AUTO,
    ensemble: int | None = None,
) -> Restorer:
    """Load weights and make them ready to restore pictures.

    Args:
        name_or_path: a shipped name (`restore models` lists them), a weight file, an official NAFNet `.pth`, or the
            folder of a training run.
        task: refuse weights made for another task.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:i`.
        precision: of the computation; see `Restorer`.
        tile: see `Restorer`.
        tlc: see `Restorer`.
        ensemble: see `Restorer`.

    Raises:
        WeightsError: the weights are missing, damaged or of the wrong kind.
        DeviceError: there is no such device.
        UsageError: an option has no meaning.
    """
    chosen = find_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    network, info = load_weights(name_or_path, task)
    return Restorer(network, info, device=chosen, precision=precision, tile=tile, tlc=tlc, ensemble=ensemble)


def find_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:i` stands for.

    Raises:
        UsageError: another word.
        DeviceError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not (found := re.fullmatch(r"cuda(?::(0|[1-9][0-9]*))?", name)):
        raise UsageError(f"device {name}: choose auto, cpu, cuda or cuda:i")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device {name}: CUDA is not available here; choose the device cpu, or install a CUDA build of torch"
        )
    if int(found[1] or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name}: there are only {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a CUDA device computes in bfloat16 itself; older ones imitate it, slowly."""
    return torch.cuda.get_device_capability(device)[0] >= 8


class Restorer:
    """Restores pictures with one network; threads may share it, and under TLC they take turns.

    Args:
        network: takes (N,3,H,W) and returns the same shape; a folded copy of it is used. One that works at several
            scales restores the whole picture at each of them, in tiles, before the next larger one.
        info: what its weights say of themselves.
        device: to compute on.
        precision: `fp32`, `bf16`, `fp16` or `auto`: float32 on a CPU, so that every machine gives the same picture,
            and bfloat16 on CUDA where the device has it. A tile that comes out NaN is computed again in float32.
        tile: side of the tiles in pixels; `off` for the whole picture at once; `auto` takes tiles of 1024, or less
            where memory is short. Networks that average over the whole picture, as the published NAFNets do, are
            tiled only where memory is short: their tiles differ from wholes.
        tlc: whether channel attention averages around each pixel where the network was trained with averages of whole
            patches: `on`, `off`, or `auto` for what the weights say (official GoPro and REDS checkpoints: on, as they
            were published). A picture where both averages disagree wildly is restored without it, and so is the batch
            that it is part of.
        ensemble: how many orientations of the picture are restored and averaged, 1, 2, 4 or 8; it takes as many times
            longer. Every second one is shifted by a pixel, too. None for what the weights say.

    Raises:
        UsageError: the tile is too small or no size, there is no attention that TLC could change, or no such
            precision, tlc or ensemble.

    References:
        Chu, Chen, Chen, Lu 2022, TLC, arXiv:2112.04491; for the ensemble see `restore.ensemble`.
    """

    def __init__(
        self,
        network: nn.Module,
        info: WeightsInfo | None = None,
        *,
        device: torch.device | str = "cpu",
        precision: Precision | str = Precision.AUTO,
        tile: int | Literal["auto", "off"] = "auto",
        tlc: LocalStatistics | str = LocalStatistics.AUTO,
        ensemble: int | None = None,
    ) -> None:
        check_settings(tile, ensemble)
        self.info = info
        self.device = torch.device(device)
        self.precision = _choose_precision(as_word(Precision, precision, "precision"), self.device)
        self.dtype = _DTYPES[self.precision]
        self.tile = tile
        if ensemble is None:
            ensemble = info.ensemble if info is not None else 1
        self.ensemble = ensemble
        network = copy.deepcopy(network).eval()
        self.tlc_px = _tlc_px(network, info, as_word(LocalStatistics, tlc, "tlc"))
        self._tile_sizes: dict[tuple[int, ...], int] = {}  # by number and size of pictures
        self.grid_px, self.largest_tile, self.num_scales, self.knows_sigma = TILE_MULTIPLE, MAX_AUTO_TILE, 1, False
        if isinstance(network, NAFNet):
            self.grid_px = network.grid_px
            self.largest_tile = sys.maxsize if network.config.is_global else MAX_AUTO_TILE
            self.num_scales = network.config.scales
            self.knows_sigma = network.config.sigma_input
            network.fold()
            network.use_local_statistics(None)
        self.multiple = max(TILE_MULTIPLE, self.grid_px)
        self.network: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, image: Image, *, sigma: float | None = None, strength: float = 1.0, clip: bool = True) -> Image:
        """Restore one picture or a batch.

        Args:
            image: an array (H,W,3) or (H,W), or a tensor (3,H,W) or (N,3,H,W); float32 nominally in [0,1] (noise may
                leave it), uint8 or uint16.
            sigma: standard deviation of the noise in [0,1]; None to let the network find out.
            strength: 0 returns the picture, 1 the restored one, between them a blend.
            clip: limit floats to [0,1]; integers always are.

        Returns:
            The same kind, shape and depth. Pixels that are NaN or infinite are treated as black and come back as
            they were.

        Warns:
            UserWarning: the picture was restored without TLC, since local and global averages disagree; or some tiles
                come back as they were, since the network fails there: rare pictures drive its gates beyond all bounds.

        Raises:
            TypeError: the image is neither an array nor a tensor.
            ValueError: another shape or depth, or a sigma or strength outside [0,1].
            UsageError: this network cannot be told the noise level.
            ImageError: not enough memory for this picture; or the network makes nothing but NaN of a tile.
            DeviceError: not enough memory for a single tile of the smallest size.
        """
        restored, notes = self.restore(image, sigma=sigma, strength=strength, clip=clip)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return restored

    def restore(
        self,
        image: Image,
        *,
        sigma: float | None = None,
        strength: float = 1.0,
        clip: bool = True,
        on_progress: Callable[[float], None] | None = None,
    ) -> tuple[Image, tuple[str, ...]]:
        """Restore like a call does, and return what a person should know of the result instead of warning of it.

        Args:
            image: as for a call, like the next three.
            sigma: see there.
            strength: see there.
            clip: see there.
            on_progress: is told after each tile which share of the work is done, from 0 to 1.
        """
        self.check(sigma, strength)
        restored, notes = self._restore_by_sound_statistics(
            _as_batch(image), sigma=sigma, strength=strength, clip=clip, on_progress=on_progress
        )
        return _as_given(restored, image), notes

    def check(self, sigma: float | None, strength: float) -> None:
        """Refuse what `restore` would refuse, before there is a picture.

        Raises:
            ValueError: sigma or strength lie outside [0,1].
            UsageError: this network cannot be told the noise level.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"the strength must lie in [0,1], got {strength}")
        if sigma is not None and not 0 <= sigma <= 1:
            raise ValueError(f"sigma must lie in [0,1], got {sigma}; divide by 255 what is meant on 0–255")
        if sigma is not None and not self.knows_sigma:
            raise UsageError("these weights find the noise level themselves and cannot be told it; leave sigma out")

    def _restore_by_sound_statistics(self, source: Tensor, **options: Any) -> tuple[Tensor, tuple[str, ...]]:  # noqa: ANN401
        """Restore with TLC where that is asked for and sound, else without."""
        if self.tlc_px is None:
            return self._restore(source, **options)
        assert isinstance(self.network, NAFNet)
        with _ONE_AT_A_TIME:
            self.network.use_local_statistics(self.tlc_px)
            try:
                return self._restore(source, **options)
            except _StatisticsDisagreeError as error:
                self.network.use_local_statistics(None)
                restored, notes = self._restore(source, **options)
                return restored, (str(error), *notes)

    def _restore(
        self,
        source: Tensor,
        *,
        sigma: float | None,
        strength: float,
        clip: bool,
        on_progress: Callable[[float], None] | None,
    ) -> tuple[Tensor, tuple[str, ...]]:
        shape = source.shape[0], *source.shape[-2:]
        size = self._tile_sizes.get(shape) or self._tile_size(*shape)
        while True:
            self._tile_sizes[shape] = size  # the frames of a video get the same tiles, and flicker nowhere
            try:
                work = _Work(self._num_pixels(source, size), on_progress)
                return self._restore_tiled(source, size, work, sigma=sigma, strength=strength, clip=clip)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            give_back_freed_memory()  # only behind the error, whose traceback holds what the attempt took
            if size <= MIN_TILE:
                self._check_memory_for_a_tile()
                told = f"not enough memory for this picture, even in tiles of {size} pixels"
                raise ImageError(f"{told}; free some or split it")
            size = max(MIN_TILE, size // 2)

    def _check_memory_for_a_tile(self) -> None:
        """Refuse to go on where no picture would fit, however small.

        Raises:
            DeviceError: a single tile of the smallest size is too much.
        """
        try:
            with torch.inference_mode():
                self._run_network(torch.zeros(1, 3, MIN_TILE, MIN_TILE, device=self.device), None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = f"out of memory on {self.device} even with tiles of {MIN_TILE} pixels"
            remedy = "close other programs" + (" or choose the device cpu" if self.device.type != "cpu" else "")
            raise DeviceError(f"{reason}; {remedy}") from error

    def _restore_tiled(
        self, source: Tensor, size: int, work: _Work, *, sigma: float | None, strength: float, clip: bool
    ) -> tuple[Tensor, tuple[str, ...]]:
        coarse_change = self._change_of_half(source, size, work, sigma, self.num_scales - 1)
        restored, failures = self._refine(source, coarse_change, size, work, sigma, strength=strength, clip=clip)
        return restored, _note_of_failures(failures)

    def _num_pixels(self, source: Tensor, size: int) -> int:
        """Return how many pixels the network will see, those of overlaps and of smaller sizes too."""
        total, (height, width) = 0, source.shape[-2:]
        for _ in range(self.num_scales):
            down, across = (self._tiling(size).spans(length) for length in (height, width))
            total += sum(rows.stop - rows.start for rows in down) * sum(tile.stop - tile.start for tile in across)
            height, width = -(-height // 2), -(-width // 2)
        return total

    def _change_of_half(
        self, source: Tensor, size: int, work: _Work, sigma: float | None, num_smaller: int
    ) -> Tensor | None:
        """Return what restoring the whole picture at half its size changes, zeros where the network fails."""
        if not num_smaller:
            return None
        half = _halved(source).expand(-1, 3, -1, -1)  # grey as colour, like in training
        sigma = None if sigma is None else sigma / 2  # the mean of four pixels
        coarse_change = self._change_of_half(half, size, work, sigma, num_smaller - 1)
        restored, _ = self._refine(half, coarse_change, size, work, sigma, strength=1, clip=False)
        return restored.sub_(half)

    def _refine(
        self,
        source: Tensor,
        coarse_change: Tensor | None,
        size: int,
        work: _Work,
        sigma: float | None,
        *,
        strength: float,
        clip: bool,
    ) -> tuple[Tensor, Tensor]:
        """Restore pictures at their own size; return also on which tile of which of them the network fails."""
        num, channels, height, width = source.shape
        restored = torch.empty((num, height, width, channels), dtype=source.dtype).permute(0, 3, 1, 2)
        # of each tile, which of the pictures it fails on; small tensors among large ones would keep what is freed apart
        failures: list[list[bool]] = []

        def restore_tile(rows: slice, columns: slice) -> Tensor:
            tile = _to_unit(source[..., rows, columns].to(self.device))
            output, is_sound = self._run(tile, _enlarged(coarse_change, rows, columns, self.device), sigma)
            failures.append((~is_sound).tolist())
            work.count(tile)
            output = output if strength == 1 else torch.lerp(tile, output, strength)
            return (output if is_sound.all() else torch.where(is_sound.view(-1, 1, 1, 1), output, tile)).cpu()

        with torch.inference_mode():
            for rows, strip in restore_strips(height, width, self._tiling(size), restore_tile):
                restored[..., rows, :] = _from_unit(strip, source, rows, clip=clip)
        return restored, torch.tensor(failures)

    def _run(self, tile_NCHW: Tensor, coarse_change: Tensor | None, sigma: float | None) -> tuple[Tensor, Tensor]:
        """Restore float32 (N,1 or 3,H,W) in one go; return also on which of the N the network did not fail."""
        channels = tile_NCHW.shape[1]
        finite = tile_NCHW.nan_to_num(0, 0, 0)
        usual = finite.clamp(*USUAL)
        x = usual.expand(-1, 3, -1, -1)
        if coarse_change is not None:  # it is turned with the picture
            x = torch.cat([x, coarse_change], dim=1)
        y = mean_over_views(
            lambda view: self._run_network(view, sigma),
            x,
            self.ensemble,
            lambda view: mirrored_to_multiple(view, self.grid_px),
        )
        y = (y if channels == 3 else y.mean(1, keepdim=True)) + (finite - usual)
        return y, y[:, 0, 0, 0].isfinite()  # where it is not, none of that picture's pixels are

    def _run_network(self, image_NCHW: Tensor, sigma: float | None) -> Tensor:
        """Run the network on (N,3,H,W), or with the coarse change on (N,6,H,W); where it explodes, return NaN."""
        x, *coarse_change = (
            part.contiguous(memory_format=torch.channels_last) for part in torch.split(image_NCHW, 3, 1)
        )
        sigma_N = None if sigma is None else torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)

        def run() -> Tensor:
            if isinstance(self.network, NAFNet):
                return self.network.refine(x, sigma_N, *coarse_change)
            restored: Tensor = self.network(x)
            return restored

        with _whole_float32:
            with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
                y = run().float()
            if self.dtype != torch.float32 and not y.isfinite().all():
                y = run()
        if isinstance(self.network, NAFNet) and (ratio := self.network.statistics_disagreement()) > TLC_LIMIT:
            raise _StatisticsDisagreeError(
                f"restored without TLC: some factors of its local averages differ by {100 * ratio:.0f} % from those of "
                "the whole picture, which paints mosaics"
            )
        change, largest = (torch.linalg.vector_norm(values, torch.inf, dim=(1, 2, 3)) for values in (y - x, x))
        is_sound = change <= EXPLODED * largest.clamp_min(1)
        if is_sound.all():
            return y
        if not y.isfinite().any():
            raise ImageError("the network's output is not finite, so nothing was written; choose other weights")
        return torch.where(is_sound.view(-1, 1, 1, 1), y, math.nan)

    def _tiling(self, size: int) -> Tiling:
        def rounded(length: int) -> int:
            return -(-length // self.multiple) * self.multiple

        overlap = OVERLAP_OF_SCALES if self.num_scales > 1 else OVERLAP
        shared = rounded(min(overlap, size // 2))
        return Tiling(rounded(size), min(shared, rounded(size) - self.multiple), self.multiple)

    def _tile_size(self, num: int, height: int, width: int) -> int:
        """Return the side of the tiles, halved where memory is short."""
        if isinstance(self.tile, int):
            return self.tile
        size = max(height, width)
        if self.tile == "off":
            return size
        affordable_px = _free_memory(self.device) / 4 / BYTES_PER_PIXEL
        size = min(size, self.largest_tile)
        while size > MIN_TILE and num * min(size, height) * min(size, width) > affordable_px:
            size //= 2
        return max(MIN_TILE, size)


class _Work:
    """Counts the pixels that are done of all that there are."""

    def __init__(self, num_pixels: int, on_progress: Callable[[float], None] | None) -> None:
        self.num_pixels = num_pixels
        self.on_progress = on_progress
        self.num_done = 0

    def count(self, tile: Tensor) -> None:
        self.num_done += tile.shape[-2] * tile.shape[-1]
        if self.on_progress is not None:
            self.on_progress(self.num_done / self.num_pixels)


class _StatisticsDisagreeError(Exception):
    """TLC would leave mosaics."""


def _note_of_failures(failures_TN: Tensor) -> tuple[str, ...]:
    """Say how many tiles of how many pictures of a batch were left as they were."""
    num_tiles, num_pictures = failures_TN.shape
    if not (num_failed := int(failures_TN.sum())):
        return ()
    all_of_them = num_tiles * num_pictures
    where = "" if num_failed == all_of_them else f" in {num_failed} of {all_of_them} tiles"
    return (f"left as it was{where}: the network fails on what is there; other weights may not",)


def _tlc_px(network: nn.Module, info: WeightsInfo | None, tlc: LocalStatistics) -> int | None:
    """Return the side of the surroundings that channel attention averages over, None for whole pictures."""
    said, fitting = (info.tlc_px, info.tlc_px_of_training) if info is not None else (None, None)
    if tlc is LocalStatistics.OFF or (tlc is LocalStatistics.AUTO and said is None):
        return None
    if not isinstance(network, NAFNet) or not network.config.averages_globally:
        if tlc is LocalStatistics.ON:
            raise UsageError("tlc on: these weights do not average over whole pictures; leave it out")
        return None
    return said or fitting or PUBLISHED_TLC_PX


def check_settings(tile: int | Literal["auto", "off"], ensemble: int | None) -> None:
    """Refuse what a Restorer would refuse.

    Raises:
        UsageError: the tile is too small or no size, or there is no such ensemble.
    """
    if tile not in ("auto", "off") and not isinstance(tile, int):
        raise UsageError(f"tile {tile!r}: choose auto, off or a whole number of pixels")
    if isinstance(tile, int) and tile < MIN_TILE:
        raise UsageError(f"tile {tile}: a tile needs at least {MIN_TILE} pixels a side")
    if ensemble is not None and ensemble not in ENSEMBLES:
        raise UsageError(f"ensemble {ensemble}: choose {', '.join(map(str, ENSEMBLES))}")


def _as_given(restored_NCHW: Tensor, image: Image) -> Image:
    """Return a restored batch in the form that a picture came in."""
    if isinstance(image, Tensor):
        return restored_NCHW.view(image.shape).to(image.device)
    if image.ndim == 2:
        return restored_NCHW[0, 0].numpy()
    return restored_NCHW[0].permute(1, 2, 0).numpy()


def _as_batch(image: Array | Tensor) -> Tensor:
    """See a picture as (N,C,H,W), copied only where torch cannot take it as it lies."""
    if not isinstance(image, Tensor | np.ndarray):  # Pillow's pictures may hold numbers of a palette
        raise TypeError(f"expected an array or a tensor, got {type(image).__name__}; make one of it, such as by NumPy")
    depth = str(image.dtype).removeprefix("torch.") if isinstance(image, Tensor) else image.dtype.name
    if depth not in _DEPTHS:
        raise ValueError(f"expected float32, uint8 or uint16, got {depth}")
    if isinstance(image, Tensor):
        batch = (image if image.ndim == 4 else image[None]).detach()  # nothing here is trained
    else:
        array = np.require(image, image.dtype.newbyteorder("="), ["C", "W"])
        batch = torch.from_numpy(array)
        batch = batch[None, None] if batch.ndim == 2 else batch.movedim(-1, 0)[None]
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or 0 in batch.shape:
        raise ValueError(f"expected (H,W,3), (H,W), or a tensor (3,H,W) or (N,3,H,W), got {tuple(image.shape)}")
    return batch


def _to_unit(tile: Tensor) -> Tensor:
    return tile.float().div_(torch.iinfo(tile.dtype).max) if tile.dtype in _INTEGERS else tile


def _halved(source: Tensor) -> Tensor:
    """Return pictures of any depth at half their size, as float32 in [0,1], made a strip of rows at a time."""
    num, channels, height, width = source.shape
    size = num, -(-height // 2), -(-width // 2), channels
    half = torch.empty(size, dtype=torch.float32).permute(0, 3, 1, 2)
    for top in range(0, height, ROWS_HALVED):
        strip = _to_unit(source[..., top : top + ROWS_HALVED, :]).nan_to_num(0, 0, 0).clamp_(*USUAL)
        half[..., top // 2 : (top + ROWS_HALVED) // 2, :] = halved(strip)
    return half


def _enlarged(coarse_change: Tensor | None, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
    """Return what was changed at half the size in a tile of the whole, whose first row and column are even."""
    if coarse_change is None:
        return None
    height, width = rows.stop - rows.start, columns.stop - columns.start
    top, left = rows.start // 2, columns.start // 2
    part = coarse_change[..., top : top + -(-height // 2), left : left + -(-width // 2)]
    return enlarged(part.to(device))[..., :height, :width]


def _from_unit(strip: Tensor, source: Tensor, rows: slice, *, clip: bool) -> Tensor:
    if source.dtype in _INTEGERS:
        peak = torch.iinfo(source.dtype).max
        return strip.mul(peak).round_().clamp_(0, peak).to(source.dtype)
    original = source[..., rows, :].cpu()
    return torch.where(original.isfinite(), strip.clamp(0, 1) if clip else strip, original)


def _choose_precision(precision: Precision, device: torch.device) -> Precision:
    if precision is not Precision.AUTO:
        return precision
    return Precision.BF16 if device.type == "cuda" and has_bfloat16(device) else Precision.FP32


class _WholeFloat32:
    """Has cuDNN multiply all bits of float32: it takes 10 of the 23 unless told, 0.1/255 off with our weights.

    The setting is that of the whole process: the first thread inside makes it, the last one takes it back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_inside = 0
        self.before = ""

    def __enter__(self) -> None:
        with self.lock:
            if not self.num_inside:
                self.before, _CUDNN.fp32_precision = _CUDNN.fp32_precision, "ieee"
            self.num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.num_inside -= 1
            if not self.num_inside:
                _CUDNN.fp32_precision = self.before


_CUDNN = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch does not declare it
_whole_float32 = _WholeFloat32()


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes
        return torch.cuda.mem_get_info(device)[0] + cached
    return free_memory()
