"""restore.degradations.motion: paths, kernels, and the mean of what a moving camera sees."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from restore.degradations import (
    Exposure,
    Layer,
    Motion,
    brighten_highlights,
    convolve,
    draw_layer,
    draw_motion,
    kernel_of,
    mean_light,
    motion_blur,
    to_linear,
    to_srgb,
    trajectory,
)
from restore.degradations.motion import SPACING_PX
from restore.metrics import psnr


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(height: int = 48, width: int = 40) -> Tensor:
    """A picture with edges, (3,H,W)."""
    blocks = torch.rand(3, -(-height // 6), -(-width // 6), generator=seeded(9))
    return blocks.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, :height, :width].contiguous()


def shift_across(length_px: float, focal_px: float = 1e5) -> Motion:
    """A steady motion to the side; the long focal length makes it a mere shift."""
    positions = torch.zeros(65, 4, dtype=torch.float64)
    positions[:, 0] = torch.linspace(-0.5, 0.5, 65) * length_px / focal_px
    return Motion(positions, focal_px, (20.0, 20.0))


@pytest.mark.parametrize("length", [0.2, 3.0, 20.0, 111.0])
def test_a_path_has_its_length_and_its_mean_at_zero(length: float) -> None:
    for seed in range(10):
        path = trajectory(seeded(seed), length)
        steps = path.diff(dim=0).norm(dim=1)
        assert steps.sum().item() == pytest.approx(length, rel=1e-9)
        assert (path[1:] + path[:-1]).mean(0).abs().max() < 1e-9 * length


def test_paths_go_from_straight_to_tangled_with_anxiety() -> None:
    def extent(anxiety: float) -> float:
        paths = [trajectory(seeded(seed), 1.0, (anxiety, anxiety)) for seed in range(20)]
        return sum(float((path[-1] - path[0]).norm()) for path in paths) / 20

    ends = [path[-1] - path[0] for path in (trajectory(seeded(seed), 1.0, (1e-6, 1.0)) for seed in range(60))]
    assert 30 < sum(float(end.norm()) > 0.95 for end in ends) < 58  # log-uniformly: two thirds of them are below 0.01
    assert extent(1e-6) == pytest.approx(1)
    assert extent(0.01) > 0.9
    assert extent(0.3) < 0.5


def test_the_more_restless_a_path_the_more_often_it_goes_back() -> None:
    def share_that_goes_back(anxiety: float, num_paths: int = 100) -> float:
        num = 0
        for seed in range(num_paths):
            steps = trajectory(seeded(seed), 1.0, (anxiety, anxiety)).diff(dim=0)
            directions = steps / steps.norm(dim=1, keepdim=True)
            num += bool(((directions[1:] * directions[:-1]).sum(1) < -0.7).any())
        return num / num_paths

    assert share_that_goes_back(0.003) < 0.05
    assert 0.06 < share_that_goes_back(0.03, 400) < 0.11  # 0.3 % of 64 steps are jerks, two fifths of them so sharp
    assert share_that_goes_back(0.1) > 0.15


@pytest.mark.parametrize("length", [-1.0, math.nan, math.inf])
def test_bad_lengths(length: float) -> None:
    with pytest.raises(ValueError, match="from 0 pixels upwards"):
        trajectory(seeded(), length)


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 3.0, 20.0, 60.0])
def test_a_kernel_has_sum_one_and_its_centre_of_mass_in_the_middle(length: float) -> None:
    for seed in range(10):
        kernel = kernel_of(trajectory(seeded(seed), length))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
        place = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
        assert abs(float(kernel.sum(0) @ place)) < 1e-9
        assert abs(float(kernel.sum(1) @ place)) < 1e-9
        assert kernel.shape[0] <= 2 * math.ceil(length) + 1


def test_the_kernel_of_a_straight_path_is_a_line_of_its_length() -> None:
    path = torch.stack([torch.linspace(-4.5, 4.5, 65), torch.zeros(65)], 1).double()
    kernel = kernel_of(path)
    assert kernel.shape == (11, 11)
    line = kernel[5]
    assert line.sum().item() == pytest.approx(1)
    assert torch.allclose(line[2:9], torch.full((7,), 1 / 9, dtype=torch.float64), atol=1e-3)
    downwards = kernel_of(path.flip(1))
    assert torch.equal(downwards, kernel.T)
    half_a_pixel_lower = kernel_of(path + torch.tensor([0.0, 0.5]))  # which is taken out again
    assert torch.allclose(half_a_pixel_lower, kernel, atol=1e-9)


def hesitating(length_px: float) -> Tensor:
    """A straight path, slow at first and fast at last: in the middle of the time a quarter of it is travelled."""
    across = torch.linspace(0, 1, 65, dtype=torch.float64).square() * length_px
    return torch.stack([across, torch.zeros(65)], 1)


def test_a_kernel_can_have_the_middle_of_the_exposure_in_its_middle() -> None:
    kernel = kernel_of(hesitating(12), Exposure("middle"))
    place = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    assert kernel.sum().item() == pytest.approx(1)
    assert float(kernel.sum(0) @ place) == pytest.approx(12 / 3 - 12 / 4, abs=1e-2)  # mean of t² less that at t = 1/2
    assert float(kernel.sum(0)[place < 0].sum()) == pytest.approx(0.5, abs=0.1)  # as long before as after
    steady = torch.stack([torch.linspace(-4.5, 4.5, 65), torch.zeros(65)], 1).double()
    assert torch.allclose(kernel_of(steady, Exposure("middle")), kernel_of(steady), atol=1e-12)


def test_a_moving_camera_can_show_the_middle_of_the_exposure() -> None:
    image = picture()
    positions = torch.zeros(65, 4, dtype=torch.float64)
    positions[:, :2] = hesitating(12) / 1e5
    motion = Motion(positions, 1e5, (20.0, 20.0))
    kernel = kernel_of(hesitating(12), Exposure("middle"))
    expected = convolve(image, kernel.flip(0, 1))  # things move against the camera
    inner = (slice(None), slice(None), slice(14, -14))
    assert psnr(expected[inner], motion_blur(image, motion, exposure=Exposure("middle"))[inner]) > 34
    assert psnr(expected[inner], motion_blur(image, motion, exposure=Exposure("mean"))[inner]) < 34


def test_a_video_camera_leaves_as_many_edges_as_it_takes_frames() -> None:
    kernel = kernel_of(hesitating(100), Exposure("middle", 5))  # at 1, 9, 25, 49 and 81 px
    row, middle = kernel[kernel.shape[0] // 2], kernel.shape[1] // 2
    assert row.sum().item() == pytest.approx(1)
    assert [row[middle + place - 25].item() for place in (1, 9, 25, 49, 81)] == pytest.approx([0.2] * 5, abs=0.01)
    alone = kernel_of(hesitating(32), Exposure("middle", 1))
    assert torch.equal(alone, torch.ones(1, 1, dtype=torch.float64))
    centred = kernel_of(hesitating(32), Exposure("mean", 5))
    place = torch.arange(len(centred), dtype=torch.float64) - len(centred) // 2
    assert float(centred.sum(0) @ place) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("num", [-1, 0, 2, 8])
def test_a_number_of_frames_without_a_middle_one_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match="odd number"):
        Exposure("middle", num)


def test_a_moving_video_camera_averages_its_frames() -> None:
    image = picture()
    blurred = motion_blur(image, shift_across(12.0), exposure=Exposure("middle", 3))
    frames = torch.stack([torch.roll(image, shift, 2) for shift in (-4, 0, 4)])
    inner = (slice(None), slice(None), slice(5, -5))
    torch.testing.assert_close(blurred[inner], frames.mean(0)[inner], atol=2e-3, rtol=0)


def test_no_motion_is_the_identity() -> None:
    image = picture()
    for rotation in (0.0, 1.0):
        motion = draw_motion(seeded(), 0.0, (48, 40), rotation=rotation)
        assert torch.equal(motion_blur(image, motion), image)
    layer = draw_layer(seeded(), (48, 40), motion)
    assert torch.equal(motion_blur(image, motion, layer), image)
    assert torch.equal(convolve(image, kernel_of(trajectory(seeded(), 0.0))), image)
    assert psnr(image, motion_blur(image, draw_motion(seeded(), 0.1, (48, 40)))) > 38


def test_a_layer_that_moves_as_the_rest_changes_nothing() -> None:
    image = picture()
    motion = draw_motion(seeded(), 6.0, (48, 40))
    blurred = motion_blur(image, motion, Layer(torch.ones(1, 48, 40), motion))
    assert torch.allclose(blurred, motion_blur(image, motion), atol=1e-5)


def test_a_soft_edge_neither_darkens_nor_brightens() -> None:
    soft = torch.linspace(0, 1, 40).expand(1, 48, 40)
    grey = torch.full((3, 48, 40), 0.5)
    blurred = motion_blur(grey, draw_motion(seeded(), 0.0, (48, 40)), Layer(soft, shift_across(6.0)))
    assert torch.allclose(blurred, grey, atol=1e-4)


def test_only_the_layer_moves_in_front_of_a_still_camera() -> None:
    image = picture()
    mask = torch.zeros(1, 48, 40)
    mask[:, 16:32, 12:28] = 1
    blurred = motion_blur(image, draw_motion(seeded(), 0.0, (48, 40)), Layer(mask, shift_across(4.0)))
    assert (blurred - image)[:, 16:32, 14:26].abs().mean() > 0.01
    for rows, columns in ((slice(0, 14), slice(None)), (slice(None), slice(0, 8)), (slice(None), slice(32, None))):
        assert torch.allclose(blurred[:, rows, columns], image[:, rows, columns], atol=1e-4)


def test_a_shift_equals_the_convolution_with_its_line() -> None:
    image = picture()
    line = torch.full((1, 5), 0.25)
    line[0, 0] = line[0, -1] = 0.125  # 4 px wide
    blurred = motion_blur(image, shift_across(4.0))
    assert psnr(convolve(image, line), blurred) > 38
    assert torch.allclose(blurred.mean(), image.mean(), atol=1e-2)


def test_reading_between_pixels_hardly_softens() -> None:
    image = picture()
    positions = torch.zeros(65, 4, dtype=torch.float64)
    positions[:, 0] = (
        torch.where(torch.arange(65) < 32, -1.0, 1.0) * 0.5e-5
    )  # half a pixel to either side, no way between
    positions[:, 0] -= (positions[1:, 0] + positions[:-1, 0]).mean() / 2
    blurred = motion_blur(image, Motion(positions, 1e5, (20.0, 20.0)))
    sharpest = blurred.diff(dim=2).abs().mean() / image.diff(dim=2).abs().mean()
    assert sharpest > 0.85


def place_of(pixel: tuple[float, float], position: list[float], focal_px: float = 500.0) -> tuple[float, float]:
    """Return where a camera at a position sees what a still one sees at a pixel, both relative to the axis."""
    positions = torch.tensor([position, [0, 0, 0, 0]], dtype=torch.float64)
    maps = Motion(positions, focal_px, (40.0, 30.0)).homographies()
    assert torch.allclose(maps[1], torch.eye(3, dtype=torch.float64), atol=1e-12)
    across, down, depth = maps[0] @ torch.tensor([pixel[0] + 40, pixel[1] + 30, 1], dtype=torch.float64)
    return float(across / depth) - 40, float(down / depth) - 30


def test_roll_turns_around_the_axis_and_zoom_stretches_from_it() -> None:
    assert place_of((20, 0), [0, 0, math.pi / 6, 0]) == pytest.approx((20 * math.sqrt(0.75), 10))
    assert place_of((20, -12), [0, 0, 0, math.log(1.25)]) == pytest.approx((25, -15))
    assert place_of((0, 0), [0, 0, 0.7, 0.3]) == pytest.approx((0, 0))


def test_a_turn_moves_by_focal_length_and_most_far_from_the_axis() -> None:
    for focal_px in (300.0, 900.0):
        for pixel in (0.0, 200.0):
            turned = focal_px * math.tan(math.atan(pixel / focal_px) + 0.02)
            assert place_of((pixel, 0), [0.02, 0, 0, 0], focal_px) == pytest.approx((turned, 0))
            assert place_of((0, pixel), [0, 0.02, 0, 0], focal_px) == pytest.approx((0, turned))


def test_roll_and_zoom_are_drawn_as_strong_as_they_are_told() -> None:
    def strengths(rotation: float, zoom: float) -> Tensor:
        drawn = [draw_motion(seeded(seed), 10.0, (64, 64), rotation=rotation, zoom=zoom) for seed in range(40)]
        edge = torch.tensor([500.0, 500.0, 32.0, 32.0])  # so much a unit moves a pixel at the edge, about
        return torch.stack([(motion.positions * edge).diff(dim=0).abs().sum(0) for motion in drawn]).mean(0)

    assert strengths(rotation=0, zoom=0)[2:].tolist() == [0, 0]
    mild, strong = strengths(rotation=0.3, zoom=0.1), strengths(rotation=3.0, zoom=1.0)
    assert 0.3 < mild[2] < 3 * 0.3 * 10
    assert 0.1 < mild[3] < 3 * 0.1 * 10
    assert (strong[2:] > 2 * mild[2:]).all()


@pytest.mark.parametrize(("rotation", "zoom", "column"), [(1.0, 0.0, 2), (0.0, 1.0, 3)])
def test_roll_or_zoom_moves_a_pixel_at_the_edge_by_up_to_its_share_of_the_shift(
    rotation: float, zoom: float, column: int
) -> None:
    shares = []
    for seed in range(200):
        motion = draw_motion(seeded(seed), 5.0, (64, 64), rotation=rotation, zoom=zoom)
        steps = motion.positions.diff(dim=0)
        shift_px = (motion.focal_px * steps[:, :2]).norm(dim=1).sum()
        shares.append(float(64 / 2 * steps[:, column].abs().sum() / shift_px))
    assert 0.8 < max(shares) <= 1 + 1e-9
    assert sum(shares) / 200 == pytest.approx(
        0.5 * 2 / math.pi, abs=0.05
    )  # drawn uniformly; turns one way or the other


@pytest.mark.parametrize("frame", [0, 1280])
def test_the_mean_way_of_a_pixel_is_the_length(frame: int) -> None:
    for seed, size in enumerate([(64, 64), (1, 1), (2, 3), (300, 200)]):
        motion = draw_motion(seeded(seed), 12.0, size, rotation=1.0, zoom=1.0, frame_px=frame)
        assert float(motion.ways(*size).sum(0).mean()) == pytest.approx(12, rel=1e-3)
        assert motion.positions.shape == (65, 4)


def test_a_patch_of_a_larger_frame_is_blurred_nearly_alike_everywhere_and_a_whole_picture_is_not() -> None:
    def spread(frame: int) -> float:
        ways = [
            draw_motion(seeded(seed), 10.0, (64, 64), rotation=3.0, frame_px=frame).ways(64, 64).sum(0)
            for seed in range(20)
        ]
        return sum(float(way.max() / way.min()) for way in ways) / len(ways)

    assert 1.001 < spread(4000) < 1.1
    assert spread(0) > 1.2


@pytest.mark.parametrize("size", [(320, 480), (480, 320), (64, 64)])
@pytest.mark.parametrize("frame", [0, 480])
def test_the_axis_meets_the_middle_of_the_frame(size: tuple[int, int], frame: int) -> None:
    height, width = size
    motions = [draw_motion(seeded(seed), 5.0, size, frame_px=frame) for seed in range(200)]
    focal = [motion.focal_px / max(height, width, frame) for motion in motions]
    assert 0.6 <= min(focal) < 0.62
    assert 1.48 < max(focal) <= 1.5
    away = torch.tensor([motion.centre for motion in motions]) - torch.tensor([(width - 1) / 2, (height - 1) / 2])
    if max(size) >= frame:
        assert not away.any()
        return
    most = torch.tensor([(frame - width) / 2, (0.75 * frame - height) / 2])  # frames are of 4:3
    assert (away.abs().amax(0) <= most).all()
    assert (away.abs().amax(0) > 0.9 * most).all()


def test_positions_are_so_close_that_no_edge_shows_twice() -> None:
    edge = torch.zeros(1, 9, 80)
    edge[:, :, 40:] = 1
    motion = Motion(shift_across(30.0).positions, 1e5, (40.0, 4.0))
    slope = motion_blur(edge, motion)[0, 4].diff()
    inside = slope[27:52]
    assert inside.max() < 1.3 * inside.min()
    assert SPACING_PX < 1


def test_pictures_larger_than_a_tile_have_no_seams() -> None:
    height, width = 20, 600
    ramp = torch.linspace(0, 1, width).expand(1, height, width)
    motion = draw_motion(seeded(), 5.0, (height, width), rotation=1.0)
    inside = motion_blur(ramp, motion)[0, :, 20:-20]
    assert (inside.diff(dim=1) * (width - 1) - 1).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 3), (1, 1, 9), (1, 65, 64)])
def test_any_size_keeps_its_shape_and_its_light(shape: tuple[int, int, int]) -> None:
    size = (shape[1], shape[2])
    image = torch.rand(shape, generator=seeded())
    before = image.clone()
    for frame in (0, 500):
        motion = draw_motion(seeded(1), 8.0, size, frame_px=frame)
        layer = draw_layer(seeded(2), size, draw_motion(seeded(3), 5.0, size))
        assert layer.mask.shape == (1, *size)
        blurred = motion_blur(image, motion, layer)
        assert blurred.shape == image.shape
        assert blurred.dtype == torch.float32
        assert torch.allclose(motion_blur(torch.full(shape, 0.3), motion), torch.full(shape, 0.3), atol=1e-5)
    assert torch.equal(image, before)


def test_masks_have_an_inside_an_outside_and_a_soft_edge() -> None:
    still = draw_motion(seeded(), 0.0, (80, 80))
    masks = torch.stack([draw_layer(seeded(seed), (80, 80), still).mask for seed in range(30)])
    assert masks.min() == 0
    assert masks.max() == 1
    assert 0.1 < masks.mean() < 0.6
    soft = ((masks > 0) & (masks < 1)).float()
    assert 0.01 < soft.mean() < 0.4
    outlines = [(masks > 0.5).float().diff(dim=dim).abs().sum((1, 2, 3)) for dim in (2, 3)]
    widths_px = soft.sum((1, 2, 3)) / (outlines[0] + outlines[1]).clamp_min(1)
    assert widths_px.min() < 1
    assert widths_px.quantile(0.75) > 2
    assert not torch.equal(masks[0], masks[1])


def test_the_generator_alone_decides() -> None:
    state = torch.random.get_rng_state()
    one, again, other = (draw_motion(seeded(seed), 9.0, (20, 20), frame_px=99) for seed in (1, 1, 2))
    assert torch.equal(one.positions, again.positions)
    assert one.centre == again.centre
    assert not torch.equal(one.positions, other.positions)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_highlights_alone_become_brighter() -> None:
    light = torch.tensor([0.0, 0.5, 0.954, 1.0]).view(1, 1, 4)
    assert torch.allclose(brighten_highlights(light, 3.0), torch.tensor([0.0, 0.5, 0.954, 3.0]).view(1, 1, 4))
    assert torch.equal(brighten_highlights(light, 1.0), light)


def test_the_mean_of_frames_is_taken_in_linear_light() -> None:
    black, white = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert torch.allclose(mean_light([black, white]), torch.tensor(0.735357), atol=1e-5)  # not 0.5
    frames = list(torch.rand(7, 3, 5, 4, generator=seeded()))
    before = frames[0].clone()
    expected = to_srgb(torch.stack([to_linear(frame) for frame in frames]).mean(0))
    assert torch.allclose(mean_light(frames), expected, atol=1e-6)
    assert torch.equal(frames[0], before)
    assert torch.allclose(mean_light(frames[:1]), frames[0], atol=1e-6)
