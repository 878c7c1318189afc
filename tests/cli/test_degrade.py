from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.cli.conftest import files_below, load_pixels, run_command

NOTE = "note: outputs other than TIFF clip and round the noise; --format tiff keeps it as drawn"
NOTE_OF_JPEG = "note: JPEG outputs are compressed too, at quality 95; --format png is exact"


def degrade(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command(["degrade", *map(str, arguments)])


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]


def ramp(height: int = 60, width: int = 80) -> Any:
    """A smooth picture that touches black and white."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([x, y, (x + y) / 2], axis=-1) * 255).round().astype(np.uint8)


def write(path: Path, pixels: Any, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def read(path: Path) -> Any:
    if path.suffix in {".tif", ".tiff"}:
        return tifffile.imread(path)
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write(folder / "a.png", ramp())
    write(folder / "sub/b.png", ramp(40, 50))
    write(folder / "sub/deep/c.jpg", ramp(), quality=95)
    return folder


def test_format_is_kept_and_the_tree_mirrored(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = degrade(photos, out, "--noise", 25)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [NOTE_OF_JPEG, NOTE]
    assert done.stderr.count("note:") == 2
    assert "degraded 3 photographs" in done.stderr
    assert not done.stdout
    files = sorted(files_below(out))
    assert files == ["a.png", "sub/b.png", "sub/deep/c.jpg"]
    assert [(out / name).read_bytes()[:4] for name in files] == [b"\x89PNG", b"\x89PNG", b"\xff\xd8\xff\xe0"]
    middle = read(out / "a.png")[20:40, 20:60].astype(float) - ramp()[20:40, 20:60]
    assert middle.std() == pytest.approx(25, rel=0.1)


def test_float_tiff_keeps_the_noise_and_the_seed_makes_it(photos: Path, tmp_path: Path) -> None:
    def run(out: str, seed: int, source: Path = photos) -> None:
        done = degrade(source, tmp_path / out, "--noise", 50, "--seed", seed, "--format", "tif")
        assert done.returncode == 0, done.stderr
        assert "note:" not in done.stderr

    run("one", 1)
    noisy = read(tmp_path / "one/a.tif")
    assert noisy.dtype == np.float32
    assert noisy.min() < -0.1
    assert noisy.max() > 1.1
    noise = noisy - ramp().astype(np.float32) / 255
    assert noise.std() * 255 == pytest.approx(50, rel=0.05)
    assert noise.mean() * 255 == pytest.approx(0, abs=2)

    (photos / "a.png").rename(photos / "aa.png")  # other neighbours, another order, another format of the same picture
    write(photos / "sub/b.bmp", ramp(40, 50))
    (photos / "sub/b.png").unlink()
    run("two", 1)
    assert np.array_equal(read(tmp_path / "one/sub/b.tif"), read(tmp_path / "two/sub/b.tif"))
    assert not np.array_equal(read(tmp_path / "two/aa.tif"), noisy)
    run("three", 2)
    assert not np.array_equal(read(tmp_path / "one/sub/b.tif"), read(tmp_path / "three/sub/b.tif"))
    run("single.tif", 1, photos / "aa.png")
    assert np.array_equal(read(tmp_path / "single.tif"), read(tmp_path / "two/aa.tif"))


def test_pictures_of_one_name_in_two_folders_get_noise_of_their_own(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write(tmp_path / "in" / place / "x.png", ramp())
    assert degrade(tmp_path / "in", tmp_path / "out", "--noise", 25).returncode == 0
    assert not np.array_equal(*(read(tmp_path / "out" / place / "x.png") for place in ("a", "b")))


def test_poisson_noise_grows_with_the_light(tmp_path: Path) -> None:
    dark_and_bright = np.repeat(np.array([[25, 230]], np.uint8), 100, axis=0).repeat(100, axis=1)
    source = write(tmp_path / "x.png", dark_and_bright)
    done = degrade(source, tmp_path / "x.tif", "--poisson", 100)
    assert done.returncode == 0, done.stderr
    noisy = read(tmp_path / "x.tif")
    assert noisy.shape == (100, 200)
    for half, level in ((noisy[:, :100], 25 / 255), (noisy[:, 100:], 230 / 255)):
        assert half.mean() == pytest.approx(level, rel=0.03)
        assert half.var() == pytest.approx(level / 100, rel=0.06)


@pytest.mark.parametrize("quality", [10, 92])
def test_jpeg_output_is_compressed_once(tmp_path: Path, quality: int) -> None:
    source = write(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    for name in ("x.jpg", "stored.png", "stored.webp"):
        assert degrade(source, tmp_path / name, "--jpeg", quality).returncode == 0
    compressed = read(tmp_path / "x.jpg")
    assert np.abs(compressed.astype(float) - read(source)).mean() > 1
    assert np.array_equal(compressed, read(tmp_path / "stored.png"))
    assert np.array_equal(compressed, read(tmp_path / "stored.webp"))


def test_depth_alpha_and_metadata_survive(tmp_path: Path) -> None:
    rgba = np.dstack([ramp(), np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)])
    exif = Image.Exif()
    exif[0x010F] = "maker"
    write(tmp_path / "in/rgba.png", rgba, exif=exif)
    write(tmp_path / "in/grey16.png", (ramp()[..., 0].astype(np.uint16) * 257))
    done = degrade(tmp_path / "in", tmp_path / "out", "--noise", 10)
    assert done.returncode == 0, done.stderr
    out = read(tmp_path / "out/rgba.png")
    assert np.array_equal(out[..., 3], rgba[..., 3])
    assert not np.array_equal(out[..., :3], rgba[..., :3])
    with Image.open(tmp_path / "out/rgba.png") as picture:
        assert picture.getexif()[0x010F] == "maker"
    grey = read(tmp_path / "out/grey16.png")
    assert grey.dtype == np.uint16 or grey.max() > 255
    assert grey.ndim == 2
    assert len(np.unique(grey)) > 1000  # noise in steps of 16 bits
    assert degrade(tmp_path / "in", tmp_path / "tiff", "--noise", 10, "--format", "tiff").returncode == 0
    floats = read(tmp_path / "tiff/rgba.tiff")
    assert floats.dtype == np.float32
    assert np.allclose(floats[..., 3], rgba[..., 3] / 255, atol=1e-6)


def test_one_bad_file_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"")
    (photos / "sub/notes.txt").write_text("skipped")
    done = degrade(photos, tmp_path / "out", "--noise", 5, "--json", "--quiet")
    assert done.returncode == 1
    assert len(errors(done)) == 1
    assert errors(done)[0].startswith(f"{photos / 'broken.png'}: ")
    assert not (tmp_path / "out/broken.png").exists()
    document = json.loads(done.stdout)
    assert document["command"] == "degrade"
    assert document["settings"] == {
        "blur": None,
        "blur_size": None,
        "blades": None,
        "num_frames": None,
        "frame_step": None,
        "frame_skip": None,
        "camera_noise": None,
        "noise": 5.0,
        "poisson": None,
        "jpeg": None,
        "webp": None,
        "reference": False,
        "seed": 0,
    }
    assert document["summary"]["done"] == 3
    assert document["summary"]["failed"] == 1


def test_existing_outputs(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = write(out / "a.png", ramp(5, 5))
    refused = degrade(photos, out, "--noise", 5)
    assert refused.returncode == 2
    assert f"{kept} exists already; " in errors(refused)[0]
    assert "--overwrite" in errors(refused)[0]
    assert [path.name for path in out.rglob("*")] == ["a.png"]
    assert degrade(photos, out, "--noise", 5, "--skip-existing").returncode == 0
    assert read(kept).shape == (5, 5, 3)
    assert (out / "sub/b.png").exists()
    assert degrade(photos, out, "--noise", 5, "--overwrite").returncode == 0
    assert read(kept).shape == (60, 80, 3)
    assert f"{kept} and 2 more exist already; " in errors(degrade(photos, out, "--noise", 5))[0]


def test_formats_have_more_than_one_suffix(photos: Path, tmp_path: Path) -> None:
    for name, format_ in (("x.tiff", "tif"), ("x.jpeg", "jpg"), ("y.png", ".PNG")):
        assert degrade(photos / "a.png", tmp_path / name, "--noise", 5, "--format", format_).returncode == 0
        assert (tmp_path / name).exists()
    assert "contradict" in errors(degrade(photos / "a.png", tmp_path / "x.png", "--noise", 5, "--format", "tif"))[0]


def test_floats_of_another_scale_are_named(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, ramp(20, 30).astype(np.float32) + 1, photometric="rgb")
    done = degrade(source, tmp_path / "b.tif", "--noise", 5)
    assert done.returncode == 0
    assert "most of its values lie above 1, which is white" in done.stderr


def test_a_folder_of_the_outputs_name_is_no_output_that_exists(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    done = degrade(photos, tmp_path / "out", "--noise", 5, "--skip-existing")
    assert done.returncode == 1
    assert errors(done) == [f"{tmp_path / 'out' / 'a.png'}: Is a directory; a folder of that name is in the way"]
    assert (tmp_path / "out/sub/b.png").exists()


@pytest.mark.parametrize(("options", "num_notes"), [((), 1), (("--format", "png"), 0)])
def test_a_tiff_that_becomes_float_is_no_surprise(tmp_path: Path, options: tuple[str, ...], num_notes: int) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/x.tif", ramp().astype(np.uint16) * 257)
    done = degrade(tmp_path / "in", tmp_path / "out", "--blur", "gaussian", "--blur-size", 1, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: TIFF outputs are float32") == num_notes
    written = next((tmp_path / "out").glob("x.*"))
    assert (load_pixels(written) if options else read(written)).dtype == (np.uint16 if options else np.float32)


def test_output_inside_the_input_is_not_read_again(photos: Path) -> None:
    assert degrade(photos, photos / "out", "--noise", 5).returncode == 0
    again = degrade(photos, photos / "out", "--noise", 5, "--overwrite")
    assert again.returncode == 0
    assert "degraded 3 photographs" in again.stderr
    assert not (photos / "out/out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("in", "out"), 2, "nothing to do: choose --blur, --camera-noise, --noise, --poisson, --jpeg or --webp"),
        (("in", "out", "--blur", "defocus"), 2, "--blur and --blur-size belong together"),
        (
            ("in", "out", "--blur", "motion", "--blur-size", "2", "--blades", "5"),
            2,
            "--blades goes with --blur defocus",
        ),
        (("in", "out", "--blur-size", "2"), 2, "--blur and --blur-size belong together"),
        (("in", "out", "--jpeg", "50", "--webp", "50"), 2, "--jpeg and --webp: choose one"),
        (("in", "out", "--poisson", "0"), 2, "--poisson 0.0: choose a number of photons from 1e-06 to 1e+09"),
        (("in", "out", "--poisson", "nan"), 2, "--poisson nan: choose a number of photons from 1e-06 to 1e+09"),
        (("in", "out", "--poisson", "1e300"), 2, "--poisson 1e+300: choose a number of photons from 1e-06 to 1e+09"),
        (("in", "in", "--noise", "5"), 2, "input and output are the same"),
        (("in", "file.txt", "--noise", "5"), 2, "a file stands where the output folder should be"),
        (("missing", "out", "--noise", "5"), 2, "no such file or folder"),
        (("empty", "out", "--noise", "5"), 3, "no pictures"),
        (("in", "out", "--noise", "5", "--format", "gif"), 2, "not a format that can be written"),
        (("in", "/proc/out", "--noise", "5"), 5, "choose a folder that can be written"),
    ],
)
def test_refusals(photos: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    root = photos.parent
    (root / "empty").mkdir()
    (root / "file.txt").write_text("a file")
    before = sorted(root.rglob("*"))
    done = degrade(root / arguments[0], root / arguments[1], *arguments[2:])
    assert done.returncode == code, done.stderr
    assert len(errors(done)) == 1
    assert message in errors(done)[0]
    assert sorted(root.rglob("*")) == before


def test_dry_run_writes_nothing(photos: Path, tmp_path: Path) -> None:
    done = degrade(photos, tmp_path / "out", "--noise", 5, "--dry-run")
    assert done.returncode == 0
    assert "would degrade 3 photographs" in done.stderr
    assert not (tmp_path / "out").exists()
    blocked = degrade(photos, photos / "a.png" / "out", "--noise", 5, "--dry-run")
    assert blocked.returncode == 5
    assert "a.png: a file stands where the output folder should be" in errors(blocked)[0]


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (("--noise", 5), [NOTE_OF_JPEG, NOTE]),
        (("--noise", 5, "--webp", 80), [NOTE_OF_JPEG]),
        (("--noise", 5, "--jpeg", 80), []),
        (("--noise", 5, "--reference"), [NOTE_OF_JPEG]),
        (("--noise", 5, "--jpeg", 80, "--reference"), [NOTE_OF_JPEG]),
        (("--camera-noise", 100, "--reference"), [NOTE_OF_JPEG]),
    ],
)
def test_notes_tell_of_what_is_written_alone(
    photos: Path, tmp_path: Path, options: tuple[object, ...], notes: list[str]
) -> None:
    done = degrade(photos, tmp_path / "out", *options)
    assert [line for line in done.stderr.splitlines() if line.startswith("note: ")] == notes


def test_a_reference_is_not_compressed_as_the_degraded_picture_is(tmp_path: Path) -> None:
    source = write(tmp_path / "x.png", ramp())
    assert degrade(source, tmp_path / "reference.jpg", "--jpeg", 10, "--reference").returncode == 0
    assert degrade(source, tmp_path / "same.jpg", "--noise", 0).returncode == 0
    assert np.array_equal(read(tmp_path / "reference.jpg"), read(tmp_path / "same.jpg"))


def test_camera_noise_grows_with_the_iso_and_depends_on_the_colours(photos: Path, tmp_path: Path) -> None:
    deviations = []
    for iso in (100, 6400):
        out = tmp_path / str(iso)
        done = degrade(photos, out, "--camera-noise", iso, "--seed", 3)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("note:") == 2  # of JPEG and of the reference: files hold all that a camera gives
        assert "score against what --reference writes" in done.stderr
        noise = read(out / "a.png").astype(float)[5:-5, 20:60] - ramp()[5:-5, 20:60]
        deviations.append(noise.std())
    assert 0.5 < deviations[0] < 8 < deviations[1] < 60
    red_green_blue = noise.reshape(-1, 3).T
    assert np.abs(np.corrcoef(red_green_blue)[np.triu_indices(3, 1)]).max() > 0.1
    assert np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1] > 0.2
    assert degrade(photos / "a.png", tmp_path / "again.png", "--camera-noise", 6400, "--seed", 3).returncode == 0
    assert np.array_equal(read(tmp_path / "again.png"), read(tmp_path / "6400/a.png"))
    write(tmp_path / "grey.png", ramp()[..., 0])
    assert degrade(tmp_path / "grey.png", tmp_path / "noisy.png", "--camera-noise", 1600).returncode == 0
    assert read(tmp_path / "noisy.png").shape == (60, 80)


def test_the_reference_differs_from_the_degraded_picture_by_its_noise_alone(tmp_path: Path) -> None:
    texture = np.random.default_rng(0).integers(60, 190, (60, 80, 3), np.uint8)
    source = write(tmp_path / "in.png", texture)

    def written(name: str, iso: int, *options: str) -> Any:
        out = tmp_path / f"{name}.png"
        done = degrade(source, out, "--camera-noise", iso, "--seed", 3, *options)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("note:") == ("--reference" not in options)
        return read(out).astype(float)

    noisy, reference = written("noisy", 25), written("reference", 25, "--reference", "--jpeg", "20")
    assert np.sqrt(np.square(noisy - reference).mean()) < 4
    assert np.sqrt(np.square(reference - texture).mean()) > 15  # the mosaic has one colour a pixel
    assert np.array_equal(reference, written("louder", 6400, "--reference"))


def test_the_reference_of_a_mean_of_frames_is_its_middle_one(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / f"in/{index}.png", np.roll(ramp(), 6 * index, axis=1))
    options = ("--blur", "frames", "--num-frames", 3, "--noise", 20, "--reference")
    assert degrade(tmp_path / "in", tmp_path / "out", *options).returncode == 0
    assert np.array_equal(read(tmp_path / "out/1.png"), np.roll(ramp(), 6, axis=1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "options",
    [("--noise", 5), ("--jpeg", 80), *(("--blur", blur, "--blur-size", 2) for blur in ("gaussian", "motion"))],
)
def test_a_value_that_is_no_number_is_not_spread(tmp_path: Path, value: float, options: tuple[object, ...]) -> None:
    pixels = ramp().astype(np.float32) / 255
    pixels[30, 40, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    done = degrade(tmp_path / "a.tif", tmp_path / "b.tif", *options)
    assert done.returncode == 1
    assert len(errors(done)) == 1
    assert "a.tif: NaN or infinite values cannot be degraded" in errors(done)[0]
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize(
    ("options", "is_clipped"),
    [
        (("--blur", "gaussian", "--blur-size", 2), False),
        (("--blur", "motion", "--blur-size", 5), True),
        (("--blur", "motion", "--blur-size", 0), True),
        (("--camera-noise", 100), True),
        (("--jpeg", 95), True),
    ],
)
def test_floats_that_are_clipped_are_told(tmp_path: Path, options: tuple[object, ...], *, is_clipped: bool) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp().astype(np.float32) / 255 * 2 - 0.1, photometric="rgb")
    done = degrade(tmp_path / "a.tif", tmp_path / "b.tif", *options)
    assert done.returncode == 0, done.stderr
    assert ("values below 0 or above 1 were clipped" in done.stderr) == is_clipped
    pixels = read(tmp_path / "b.tif")
    assert (pixels.min() >= 0 and pixels.max() <= 1) == is_clipped


def test_blur_mixes_no_hidden_colour_into_what_is_seen(tmp_path: Path) -> None:
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:, :25] = 0
    for hidden in (0, 255):
        colours = np.full((40, 60, 3), 128, np.uint8)
        colours[:, :25] = hidden
        write(tmp_path / f"{hidden}.png", np.dstack([colours, alpha]))
        out = tmp_path / f"blurred-{hidden}.png"
        assert degrade(tmp_path / f"{hidden}.png", out, "--blur", "gaussian", "--blur-size", 3).returncode == 0
        assert (read(out)[:, 25:, :3] == 128).all()
        assert (read(out)[:, :25, :3] == hidden).all()


@pytest.mark.parametrize("kind", ["gaussian", "defocus"])
def test_blur_comes_before_the_noise(tmp_path: Path, kind: str) -> None:
    edge = np.repeat(np.array([[40, 200]], np.uint8), 40, axis=0).repeat(30, axis=1)
    source = write(tmp_path / "x.png", edge)
    assert degrade(source, tmp_path / "x.tif", "--blur", kind, "--blur-size", 3).returncode == 0
    blurred = read(tmp_path / "x.tif") * 255
    steps = np.diff(blurred[20])
    assert steps.min() > -0.01
    assert 5 < np.count_nonzero(steps > 1) < 16
    assert blurred[20, 0] == pytest.approx(40, abs=0.1)
    assert degrade(source, tmp_path / "y.tif", "--blur", kind, "--blur-size", 3, "--noise", 10).returncode == 0
    noise = read(tmp_path / "y.tif") * 255 - blurred
    assert noise.std() == pytest.approx(10, rel=0.06)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.06)


def test_an_aperture_can_have_blades(tmp_path: Path) -> None:
    source = np.zeros((41, 41), np.uint8)
    source[20, 20] = 255
    write(tmp_path / "x.png", source)
    areas = []
    for name, blades in (("round", ()), ("hexagonal", ("--blades", 6)), ("triangular", ("--blades", 3))):
        out = tmp_path / f"{name}.tif"
        assert degrade(tmp_path / "x.png", out, "--blur", "defocus", "--blur-size", 9, *blades).returncode == 0
        areas.append(np.count_nonzero(read(out) > 1e-4))
    assert areas[0] > 1.1 * areas[1] > 1.5 * areas[2]


def test_webp_comes_after_the_noise_and_a_webp_output_adds_no_loss(tmp_path: Path) -> None:
    source = write(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    for name in ("stored.webp", "stored.png"):
        assert degrade(source, tmp_path / name, "--webp", 30).returncode == 0
    assert np.array_equal(read(tmp_path / "stored.webp"), read(tmp_path / "stored.png"))
    assert np.abs(read(tmp_path / "stored.png").astype(float) - read(source)).mean() > 1


def test_motion_blur_depends_on_seed_and_name_alone(tmp_path: Path) -> None:
    checks = (np.indices((60, 80)).sum(0) // 8 % 2 * 160 + 40).astype(np.uint8)
    for name in ("a.png", "b.png"):
        write(tmp_path / "in" / name, checks)
    arguments = ("--blur", "motion", "--blur-size", 9, "--format", "png")
    for out, seed in (("one", 1), ("two", 2)):
        assert degrade(tmp_path / "in", tmp_path / out, *arguments, "--seed", seed).returncode == 0
    assert degrade(tmp_path / "in/b.png", tmp_path / "again.png", *arguments, "--seed", 1).returncode == 0
    blurred = read(tmp_path / "one/b.png")
    assert np.array_equal(blurred, read(tmp_path / "again.png"))
    assert not np.array_equal(blurred, read(tmp_path / "one/a.png"))
    assert not np.array_equal(blurred, read(tmp_path / "two/b.png"))
    assert blurred.std() < 0.9 * checks.std()
    assert degrade(tmp_path / "in/b.png", tmp_path / "sharp.png", "--blur", "motion", "--blur-size", 0).returncode == 0
    assert np.array_equal(read(tmp_path / "sharp.png"), checks)


def frames(folder: Path, num: int, size: tuple[int, int] = (20, 30)) -> list[Any]:
    made = [np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8) for index in range(num)]
    for number, frame in enumerate(made, 1):
        write(folder / f"f{number}.png", frame)
    return made


def mean_of(some: list[Any]) -> Any:
    """The plain formula of the mean in linear light, on 0–255."""
    values = np.stack(some) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).mean(0)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def test_frames_become_their_mean_in_linear_light_named_after_the_middle(tmp_path: Path) -> None:
    made = frames(tmp_path / "in", 11)
    write(tmp_path / "in" / "below" / "f1.png", made[0])
    arguments = (tmp_path / "in", tmp_path / "out", "--blur", "frames", "--num-frames", 5)
    done = degrade(*arguments)
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "out") == {"f3.png", "f8.png"}
    for first in (0, 5):
        expected = mean_of(made[first : first + 5])
        assert np.abs(read(tmp_path / f"out/f{first + 3}.png") - expected).max() < 0.51
    done = degrade(*arguments, "--frame-step", 1, "--skip-existing", "--noise", 0)
    assert done.returncode == 0, done.stderr
    assert len(files_below(tmp_path / "out")) == 7
    assert (
        degrade(tmp_path / "in", tmp_path / "tiff", *arguments[2:], "--noise", 10, "--format", "tiff").returncode == 0
    )
    noise = read(tmp_path / "tiff/f8.tiff") * 255 - mean_of(made[5:10])
    assert noise.std() == pytest.approx(10, rel=0.1)


def test_frames_may_be_skipped_within_a_mean(tmp_path: Path) -> None:
    made = frames(tmp_path / "in", 11)
    arguments = (tmp_path / "in", tmp_path / "out", "--blur", "frames", "--num-frames", 3, "--frame-skip", 2)
    assert degrade(*arguments).returncode == 0
    assert files_below(tmp_path / "out") == {"f3.png", "f8.png"}
    assert np.abs(read(tmp_path / "out/f8.png") - mean_of(made[5:10:2])).max() < 0.51
    assert "a mean takes 13" in errors(degrade(*arguments[:-1], 6))[0]
    assert (
        "--frame-skip goes with" in errors(degrade(tmp_path / "in", tmp_path / "x", "--noise", 5, "--frame-skip", 2))[0]
    )


def test_pictures_and_frames_larger_than_is_allowed_are_refused(photos: Path, tmp_path: Path) -> None:
    arguments = (photos / "a.png", tmp_path / "out", "--noise", 5, "--max-pixels")
    assert "claims 80 × 60 pixels, more than the limit of 4799" in errors(degrade(*arguments, 4799))[0]
    assert degrade(*arguments, 4800).returncode == 0
    frames(tmp_path / "frames", 3)
    write(tmp_path / "frames" / "f3.png", ramp(20, 31))
    blurred = degrade(
        tmp_path / "frames", tmp_path / "mean", "--blur", "frames", "--num-frames", 3, "--max-pixels", 600
    )
    assert blurred.returncode == 1
    assert "claims 31 × 20 pixels, more than the limit of 600" in errors(blurred)[0]


def test_frames_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    frames(tmp_path / "in", 6)
    write(tmp_path / "in" / "f2.png", ramp(20, 31))
    write(tmp_path / "in" / "f4.png", ramp(20, 30)[..., 0])
    (tmp_path / "in" / "f6.png").write_bytes(b"no picture")
    done = degrade(tmp_path / "in", tmp_path / "out", "--blur", "frames", "--num-frames", 2)
    assert done.returncode == 1
    first, second, third = errors(done)
    assert "f1.png has 30×20 pixels and f2.png 31×20; frames of one video are all alike" in first
    assert "f4.png: one of it and " in second
    assert "f6.png" in third


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--blur", "frames"), 2, "--num-frames belong together"),
        (("--blur", "motion"), 2, "--blur-size belong together"),
        (("--blur", "frames", "--num-frames", 3, "--blur-size", 3), 2, "--blur-size belong together"),
        (("--noise", 3, "--num-frames", 3), 2, "--num-frames belong together"),
        (("--noise", 3, "--frame-step", 3), 2, "--frame-step goes with"),
        (("--blur", "frames", "--num-frames", 4), 3, "frames found: 3, and a mean takes 4"),
    ],
)
def test_blur_options_that_do_not_fit(tmp_path: Path, arguments: tuple[object, ...], code: int, message: str) -> None:
    frames(tmp_path / "in", 3)
    done = degrade(tmp_path / "in", tmp_path / "out", *arguments)
    assert done.returncode == code
    assert message in errors(done)[0]


def test_too_few_frames_say_what_was_passed_over(tmp_path: Path) -> None:
    frames(tmp_path / "elsewhere", 3)
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    done = degrade(tmp_path / "in", tmp_path / "out", "--blur", "frames", "--num-frames", 3)
    assert done.returncode == 3
    assert "frames found: 0, and a mean takes 3 (3 passed over, such as f1.png: a link out of" in errors(done)[0]


def test_frames_need_a_folder_other_than_the_output(tmp_path: Path) -> None:
    frames(tmp_path / "in", 3)
    arguments = ("--blur", "frames", "--num-frames", 3)
    assert "takes a folder" in errors(degrade(tmp_path / "in/f1.png", tmp_path / "out", *arguments))[0]
    frame = degrade(tmp_path / "in", tmp_path / "in/f1.png", *arguments, "--overwrite")
    assert frame.returncode == 2
    assert "is one of the frames" in errors(frame)[0]
    same = degrade(tmp_path / "in", tmp_path / "in", *arguments)
    assert same.returncode == 2
    assert "input and output are the same" in errors(same)[0]


def test_shards_draw_the_noise_that_one_run_draws(photos: Path, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert degrade(photos, whole, "--noise", 25).returncode == 0
    for index in range(2):
        assert degrade(photos, shared, "--noise", 25, "--shard", f"{index}/2").returncode == 0
    names = files_below(whole)
    assert files_below(shared) == names
    assert all((shared / name).read_bytes() == (whole / name).read_bytes() for name in names)
