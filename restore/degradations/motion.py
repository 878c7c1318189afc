"""Blur by motion: a shaking camera, objects that move by themselves, and the mean of the frames of a video.

All of it is a mean over the exposure, and light adds up in linear light: hand in `to_linear` values, clip the result to
what a sensor holds, and take `to_srgb` of it. The sharp picture is what is seen at the motion's mean position, so that
it lies where the blurred one lies; or what is seen in the middle of the exposure, as in benchmarks made from video.

References:
    Boracchi, Foi 2012, "Modeling the performance of image restoration from motion blur", doi:10.1109/TIP.2012.2192126:
    the path of a hand-held camera as that of a particle with random acceleration, a pull back and sudden jerks.
    Kupyn, Budzan, Mykhailych, Mishkin, Matas 2018, "DeblurGAN", arXiv:1711.07064: such paths for training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.degradations.borders import mirror_borders
from restore.degradations.camera import to_linear, to_srgb

Tile = tuple[slice, slice]  # rows and columns
Reference = Literal["mean", "middle"]  # position of the sharp picture

NUM_POINTS = 65  # of a path, at equal times
ANXIETY = (0.003, 0.3)  # from nearly straight to a tangle
SPACING_PX = 0.9  # between two positions that are averaged, about; from 1 on an edge would show as many
SATURATED = 0.955  # linear light, 0.98 in sRGB: from here on a sensor may have hidden how bright a lamp is

_FINE_PX = 0.125  # between two positions that make a kernel
_TILE_PX = 256  # pictures are blurred in pieces of this side
_NUM_SAMPLED = 2**20  # pixels warped at a time, times as many bytes for coordinates and colours
_NUMBERS = 4  # that make a position of a camera: across, down, roll, zoom


@dataclass(frozen=True)
class Exposure:
    """When a moving camera looks.

    Args:
        reference: where the sharp picture lies: at the `mean` position, or, as in benchmarks made from video, where
            things stand in the `middle` of the time.
        num_frames: odd number of pictures whose mean the blurred one is, taken for an instant each in the middles of
            equal parts of the time, as by a video camera; None for a shutter that stays open.
    """

    reference: Reference = "mean"
    num_frames: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and (self.num_frames < 1 or self.num_frames % 2 == 0):
            raise ValueError(f"an odd number of frames has a middle one, {self.num_frames} has none")


OPEN_SHUTTER = Exposure()


def trajectory(generator: torch.Generator, length_px: float, anxiety: tuple[float, float] = ANXIETY) -> Tensor:
    """Draw the path of a shaking camera on the picture.

    Args:
        generator: source of randomness.
        length_px: of the whole path, in pixels.
        anxiety: range of how much the velocity changes at each of 64 steps, drawn log-uniformly: 0.003 for a nearly
            straight line, 0.3 for a tangle.

    Returns:
        (65,2) float64, positions across and down at equal times, their mean over the exposure at zero.

    Raises:
        ValueError: the length is negative or not finite.
    """
    if not 0 <= length_px < math.inf:
        raise ValueError(f"a motion blur has a length from 0 pixels upwards, not {length_px}")
    start, restless = torch.rand(2, dtype=torch.float64, generator=generator).tolist()
    pushes = torch.randn(NUM_POINTS, 2, dtype=torch.float64, generator=generator).tolist()
    jerks = torch.rand(NUM_POINTS, dtype=torch.float64, generator=generator).tolist()
    anxious = anxiety[0] * (anxiety[1] / anxiety[0]) ** restless
    velocity, position = _on_circle(start), 0j
    positions = []
    for (across, down), jerk in zip(pushes, jerks, strict=True):
        positions.append(position)
        position += velocity
        velocity += anxious * (complex(across, down) - 0.1 * anxious * position)
        if jerk < 0.1 * anxious:
            velocity = -velocity * _on_circle(0.25 * across)  # back, more or less
    path = torch.view_as_real(torch.tensor(positions, dtype=torch.complex128))
    path *= length_px / path.diff(dim=0).norm(dim=1).sum()
    return path - _mean_over_time(path)


def kernel_of(path: Tensor, exposure: Exposure = OPEN_SHUTTER) -> Tensor:
    """Return the picture that a point leaves when it moves along a path, splatted bilinearly every eighth of a pixel.

    Args:
        path: (N,2), positions across and down in pixels at equal times.
        exposure: its reference falls on the kernel's middle.

    Returns:
        (k,k) float64, k odd: never negative, with sum 1.
    """
    steps = path.diff(dim=0).norm(dim=1)
    points, shares = _averaged(path, steps, _FINE_PX, exposure)
    reach = math.ceil(float(points.abs().max()) - 1e-9)
    size = 2 * reach + 1
    kernel = torch.zeros(size * size, dtype=torch.float64)
    corner = points.floor()
    beyond = points - corner
    column, row = (corner + reach).long().unbind(1)
    for right, below in itertools.product((0, 1), repeat=2):
        weight = shares * (beyond[:, 0] if right else 1 - beyond[:, 0]) * (beyond[:, 1] if below else 1 - beyond[:, 1])
        place = (row + below).clamp(0, size - 1) * size + (column + right).clamp(0, size - 1)
        kernel.index_add_(0, place, weight)  # where the place is clamped, the weight is zero
    return kernel.view(size, size)


@dataclass(frozen=True, eq=False)
class Motion:
    """How a camera turns and zooms during the exposure.

    Args:
        positions: (N,4) float64 at equal times, their mean at zero: angles across, down and around the optical axis in
            radians, and the logarithm of the zoom.
        focal_px: focal length in pixels.
        centre: where the optical axis meets the picture, in pixels across and down; it may lie outside.
    """

    positions: Tensor
    focal_px: float
    centre: tuple[float, float]

    def homographies(self, positions: Tensor | None = None) -> Tensor:
        """Return the (N,3,3) float64 that take a pixel (across, down, 1) to the place in the sharp picture seen there.

        Args:
            positions: (N,4), of the camera; by default those of the motion.
        """
        across, down, roll, zoom = (self.positions if positions is None else positions).unbind(1)
        zero = torch.zeros_like(roll)
        turn = torch.stack([zero, -roll, across, roll, zero, down, -across, -down, zero], 1).view(-1, 3, 3)
        scale = torch.stack([zoom.exp(), zoom.exp(), zero + 1], 1).diag_embed()
        optics = torch.tensor([[self.focal_px, 0, self.centre[0]], [0, self.focal_px, self.centre[1]], [0, 0, 1]])
        optics = optics.double()
        maps: Tensor = optics @ scale @ torch.linalg.matrix_exp(turn) @ torch.linalg.inv(optics)
        return maps

    def ways(self, height: int, width: int) -> Tensor:
        """Return how far nine pixels of a picture, those at its corners included, move at each step: (N-1,9) in px."""
        across, down = (torch.linspace(0, side - 1, 3, dtype=torch.float64) for side in (width, height))
        pixels = torch.stack([across.repeat(3), down.repeat_interleave(3), torch.ones(9, dtype=torch.float64)])
        seen = self.homographies() @ pixels
        ways: Tensor = (seen[:, :2] / seen[:, 2:]).diff(dim=0).norm(dim=1)
        return ways


@dataclass(frozen=True, eq=False)
class Layer:
    """Something in the picture that moves differently.

    Args:
        mask: (1,H,W) in [0,1], 1 where it stands at the exposure's reference.
        motion: its own, as if a camera of its own saw it.
    """

    mask: Tensor
    motion: Motion


def draw_motion(
    generator: torch.Generator,
    length_px: float,
    size: tuple[int, int],
    *,
    rotation: float = 0.3,
    zoom: float = 0.1,
    frame_px: int = 0,
    anxiety: tuple[float, float] = ANXIETY,
) -> Motion:
    """Draw the motion of a camera during the exposure of a picture.

    Args:
        generator: source of randomness.
        length_px: of the way of a pixel, in the mean over the picture.
        size: height and width of the picture.
        rotation: most that roll moves a pixel at the edge of the frame, relative to the shift of all pixels; how much
            it does is drawn uniformly.
        zoom: likewise for moving in and out.
        frame_px: longer side of the frame that the picture is cut from, at a place that is drawn; 0 or anything
            smaller than the picture for a picture that is the frame.
        anxiety: see `trajectory`.

    Raises:
        ValueError: the length is negative or not finite.
    """
    height, width = size
    is_cut_out = frame_px > max(height, width)
    frame_width = frame_px if is_cut_out else width
    frame_height = max(0.75 * frame_px, height) if is_cut_out else height
    side = max(frame_width, frame_height)
    shift, turn = (trajectory(generator, length_px, anxiety) for _ in range(2))
    right, below, wide, roll, move = torch.rand(5, dtype=torch.float64, generator=generator).tolist()
    across = (width - 1) / 2 + (right - 0.5) * (frame_width - width)
    down = (height - 1) / 2 + (below - 0.5) * (frame_height - height)
    reach = max(float(side), 8 * length_px)  # a camera does not turn by more than a few degrees during an exposure
    focal = reach * (0.6 + 0.9 * wide)
    strengths = torch.tensor([rotation * roll, zoom * move], dtype=torch.float64)
    positions = torch.cat([shift / focal, turn * strengths * (2 / reach)], dim=1)
    motion = Motion(positions, focal, (across, down))
    if length_px == 0:
        return motion
    for _ in range(2):  # nearly linear
        length = float(motion.ways(height, width).sum(0).mean())
        motion = Motion(motion.positions * (length_px / length), focal, (across, down))
    return motion


def draw_layer(generator: torch.Generator, size: tuple[int, int], motion: Motion) -> Layer:
    """Draw the outline of something that moves: an ellipse, or a blob with bays and capes, with a soft edge.

    Args:
        generator: source of randomness.
        size: height and width of the picture.
        motion: of the layer.
    """
    height, width = size
    down, across, tall, wide, rough, soft = torch.rand(6, generator=generator).tolist()
    bumps = torch.randn(1, 1, 5, 5, generator=generator)
    rows = (torch.arange(height) - down * (height - 1)) / ((0.15 + 0.35 * tall) * height)
    columns = (torch.arange(width) - across * (width - 1)) / ((0.15 + 0.35 * wide) * width)
    bumpy = F.interpolate(bumps, size=(height, width), mode="bicubic", align_corners=True)[0]
    inside = 1 - rows.square()[:, None] - columns.square() + 0.8 * rough * bumpy
    edge_px = 1 + 3 * soft
    mask = (0.5 + inside * (0.15 * min(height, width) / edge_px)).clamp_(0, 1)
    return Layer(mask, motion)


def brighten_highlights(light: Tensor, gain: float) -> Tensor:
    """Return linear light whose saturated values are brighter than white, as the lamps were that the sensor clipped.

    Args:
        light: (C,H,W), linear.
        gain: what white becomes.
    """
    return light + (gain - 1) * (light - SATURATED).div_(1 - SATURATED).clamp_(0, 1)


def motion_blur(light: Tensor, motion: Motion, layer: Layer | None = None, exposure: Exposure = OPEN_SHUTTER) -> Tensor:
    """Return the mean of what a moving camera sees; beyond the borders lies the mirror image.

    While the shutter is open pixels move by about 0.9 px between two positions, 1.2 where their speed changes. The
    picture is read between pixels at twice its resolution, since bilinear reading alone would soften it.

    Args:
        light: (C,H,W), linear, from 1×1 upwards.
        motion: of the camera.
        layer: what moves differently in front.
        exposure: at its reference, camera and layer see what is handed in.

    Returns:
        The same shape, not clipped; without motion equal to the input.
    """
    movers = [motion] if layer is None else [motion, layer.motion]
    height, width = light.shape[-2:]
    steps = torch.cat([mover.ways(height, width) for mover in movers], dim=1).amax(1)
    if not steps.any():
        return light.clone()
    points, shares = _averaged(torch.cat([mover.positions for mover in movers], dim=1), steps, SPACING_PX, exposure)
    parts = [points[:, first : first + _NUMBERS] for first in range(0, points.shape[1], _NUMBERS)]
    maps = [mover.homographies(part).float() for mover, part in zip(movers, parts, strict=True)]
    blurred = torch.empty_like(light)
    corners = itertools.product(range(0, height, _TILE_PX), range(0, width, _TILE_PX))
    for top, left in corners:
        tile = slice(top, min(height, top + _TILE_PX)), slice(left, min(width, left + _TILE_PX))
        blurred[:, tile[0], tile[1]] = _mean_of_tile(light, layer, maps, shares.float(), tile)
    return blurred


def mean_light(frames: Iterable[Tensor]) -> Tensor:
    """Return the picture that a camera would have taken while it took all of these: their mean in linear light.

    Args:
        frames: one or more of the same shape (…), sRGB values, nominal range [0,1]; one is held at a time.

    Returns:
        (…) sRGB values.
    """
    total, num = None, 0
    for frame in frames:
        light = to_linear(frame)
        total, num = (light if total is None else total.add_(light)), num + 1
    assert total is not None, "there is no frame"
    return to_srgb(total.div_(num))


def _on_circle(turn: float) -> complex:
    """Return the direction after a number of full turns."""
    return complex(math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn))


def _mean_over_time(path: Tensor) -> Tensor:
    """Return the mean of a path that is travelled in straight lines between its points."""
    return (path[1:] + path[:-1]).mean(0) / 2


def _averaged(path: Tensor, steps: Tensor, spacing_px: float, exposure: Exposure) -> tuple[Tensor, Tensor]:
    """Return the points of a path that are averaged, and the share of each.

    Args:
        path: (N,D) float64, at equal times.
        steps: (N-1,), way between two of them in pixels.
        spacing_px: most that may lie between two points while the shutter is open.
        exposure: its reference lies at zero.

    Returns:
        (M,D) float64, and (M,) float64 with sum 1.
    """
    last = len(path) - 1
    if exposure.num_frames is None:
        limits = _evenly_along(steps.numpy(), spacing_px)
    else:
        limits = np.linspace(0, last, exposure.num_frames + 1)
    shares = np.diff(limits) / last
    points = _positions_at((limits[1:] + limits[:-1]) / 2, path)
    origin = shares @ points if exposure.reference == "mean" else _positions_at(np.array(last / 2), path)
    return torch.from_numpy(points - origin), torch.from_numpy(shares)


def _positions_at(times: npt.NDArray[np.float64], path: Tensor) -> npt.NDArray[np.float64]:
    """Return the (…,D) positions at times (…) that are counted in points of the path."""
    return np.stack([np.interp(times, np.arange(len(path)), column) for column in path.T.numpy()], axis=-1)


def _evenly_along(steps: npt.NDArray[np.float64], spacing_px: float) -> npt.NDArray[np.float64]:
    """Return times, the first and the last included, between which a path goes on by equal ways."""
    way = np.concatenate([[0.0], np.cumsum(steps)])
    num = max(1, math.ceil(way[-1] / spacing_px))
    times = np.interp(np.linspace(0, way[-1], num + 1), way, np.arange(len(way)))
    times[0], times[-1] = 0, len(steps)
    return times


def _mean_of_tile(light: Tensor, layer: Layer | None, maps: list[Tensor], shares: Tensor, tile: Tile) -> Tensor:
    """Return the blurred pixels of some rows and columns."""
    height, width = (part.stop - part.start for part in tile)
    total = light.new_zeros(len(light), height, width)
    num = max(1, _NUM_SAMPLED // (height * width))
    sources = [light] if layer is None else [light, torch.cat([light * layer.mask, layer.mask])]
    for first in range(0, len(shares), num):
        some = slice(first, first + num)
        seen = [_seen(source, one[some], tile) for source, one in zip(sources, maps, strict=True)]
        view = seen[0]
        if layer is not None:
            view = view * (1 - seen[1][-1:].clamp(0, 1)) + seen[1][:-1]
        total += torch.einsum("cnhw,n->chw", view, shares[some])
    return total


def _seen(source: Tensor, maps: Tensor, tile: Tile) -> Tensor:
    """Return (C,n,h,w): what stands in some rows and columns under each of (n,3,3) homographies."""
    rows, columns = tile
    across = torch.arange(columns.start, columns.stop, dtype=torch.float32)
    down = torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None]
    factors = maps.view(-1, 9, 1, 1).unbind(1)
    across, down, depth = (a * across + (b * down + c) for a, b, c in zip(*[iter(factors)] * 3, strict=True))
    across, down = across.div_(depth), down.div_(depth)
    left, top = math.floor(across.min()) - 2, math.floor(down.min()) - 2
    right, bottom = math.ceil(across.max()) + 3, math.ceil(down.max()) + 3
    height, width = source.shape[-2:]
    cut = mirror_borders(source, -top, bottom - height, -left, right - width)  # a negative number cuts rows off
    fine = [2 * (bottom - top) - 1, 2 * (right - left) - 1]
    doubled = F.interpolate(cut[None], size=fine, mode="bicubic", align_corners=True)
    across.sub_(left).mul_(2 / (right - left - 1)).sub_(1)
    down.sub_(top).mul_(2 / (bottom - top - 1)).sub_(1)
    places = torch.stack([across, down], dim=-1)
    seen = F.grid_sample(doubled, places.view(1, -1, places.shape[2], 2), padding_mode="border", align_corners=True)
    return seen.view(len(source), *places.shape[:3])
