"""Making a pack: a folder of photographs in one file of a given size, to train from elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from restore.atomic import write_atomically
from restore.data.packs import FORMAT, MANIFEST, VERSION, decode
from restore.data.sources import are_too_many, some_names
from restore.errors import ImageError, NothingToDoError, OutputError, UsageError
from restore.images import UNREADABLE, Photo, find_images, from_float, read_photo, to_float
from restore.images.containers import jpeg_segments, png_pixels_only
from restore.images.opencv import cv2

LOSSLESS = 100

_NOTES = ("license", "licence", "readme", "copying", "copyright")
_MAX_NOTE_BYTES = 2**20
_NUM_PROJECTED, _PROJECTION_MARGIN = 16, 1.5  # after so many pictures a size that is hopeless is given up

PictureHandler = Callable[[int, int], None]


@dataclass(frozen=True)
class PackReport:
    """What was packed.

    Attributes:
        path: of the pack.
        num_pictures: in it.
        num_bytes: of the file.
        quality: of the JPEGs in it, or 100 where nothing was lost.
        crop: largest side in pixels, or None where pictures are whole.
        skipped: names of folders and pictures that cannot be read, and why.
        notes: names of the licences and descriptions that go with the pictures.
        num_rounded: pictures of floats, of which 16 bits of 0 to 1 are in it, 8 where it is of JPEGs.
    """

    path: Path
    num_pictures: int
    num_bytes: int
    quality: int
    crop: int | None
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    num_rounded: int

    @property
    def is_lossless(self) -> bool:
        """Whether every value of what was packed is that of its picture, but for floats."""
        return self.quality == LOSSLESS


class _Setting(NamedTuple):
    quality: int
    crop: int | None = None


_SETTINGS = (  # tried in turn, the best first
    _Setting(LOSSLESS),
    _Setting(98),
    _Setting(95),
    *(_Setting(95, crop) for crop in (1024, 768, 512, 384, 256, 192, 128)),
)


class _TooLargeError(Exception):
    """The pictures do not fit at this quality and crop."""


@dataclass
class _Contents:
    """What goes into a pack, in the order of names."""

    pictures: dict[int, tuple[dict[str, Any], bytes]]
    skipped: dict[int, tuple[str, str]]
    num_rounded: int = 0


def pack(folder: Path, out: Path, *, max_bytes: int, on_picture: PictureHandler | None = None) -> PackReport:
    """Put the photographs of a folder into one file that `open_photos` reads, the best that fits the size.

    Without loss where that fits; else as JPEG with full colour resolution, at falling quality; else cut to squares
    around the middle. A JPEG that is smaller as it is stays so. Floats are rounded to 16 bits of 0 to 1; metadata,
    alpha and, where JPEG is chosen, depths above 8 bits are left out. The same folder gives the same bytes. The
    pack is held in memory until it is written.

    Args:
        folder: searched recursively.
        out: the file to write, whole or not at all.
        max_bytes: most that the file may have.
        on_picture: called after each picture with the number done and the number of all; it starts anew with each
            quality and crop that is tried.

    Raises:
        UsageError: no such folder, or the pictures do not fit.
        NothingToDoError: no pictures, or more than 3 and more than 5 % of them cannot be read.
        OutputError: the file cannot be written.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name a folder of photographs")
    paths, closed = _find(folder)
    if not paths and closed:
        raise NothingToDoError(f"{folder / closed[0][0]}: {closed[0][1]}; check its permissions")
    if not paths:
        raise NothingToDoError(f"{folder}: no pictures to pack; name a folder of photographs")
    notes = _read_notes(folder, paths)
    for setting in _SETTINGS:
        try:
            contents = _encode_all(folder, paths, setting, max_bytes, on_picture)
            archive = _archive(contents, notes, setting)
        except _TooLargeError:
            continue
        if len(archive) > max_bytes:
            continue
        try:
            write_atomically(out, archive)
        except OSError as error:
            raise OutputError(f"{out}: {error.strerror or error}; choose a folder that can be written") from error
        return PackReport(
            path=out,
            num_pictures=len(contents.pictures),
            num_bytes=len(archive),
            quality=setting.quality,
            crop=setting.crop,
            skipped=(*closed, *(contents.skipped[index] for index in sorted(contents.skipped))),
            notes=tuple(name for name, _ in notes),
            num_rounded=contents.num_rounded,
        )
    raise UsageError(
        f"{folder}: its {len(paths)} pictures do not fit into {max_bytes / 1e6:.1f} MB; allow more, or pack fewer"
    )


def _find(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the pictures below a folder, and the names of what the system keeps from us, each with the reason."""
    closed: list[tuple[str, str]] = []

    def note(path: Path, reason: str) -> None:
        if reason.startswith(UNREADABLE):
            closed.append((_name(folder, path)[0], reason))

    return list(find_images(folder, on_skip=note)), closed


def _encode_all(
    folder: Path,
    paths: Sequence[Path],
    setting: _Setting,
    max_bytes: int,
    on_picture: PictureHandler | None,
) -> _Contents:
    """Encode every picture, as long as they do not exceed the size by themselves, nor are about to."""
    contents, num_bytes = _Contents({}, {}), 0
    shuffled = sorted(range(len(paths)), key=lambda index: hashlib.sha256(_name(folder, paths[index])[1]).digest())
    for num_done, index in enumerate(shuffled, 1):
        name = _name(folder, paths[index])[0]
        try:
            photo = read_photo(paths[index])
            pixels, content, suffix = _encode(paths[index], photo, setting)
        except ImageError as error:
            contents.skipped[index] = name, str(error).removeprefix(f"{paths[index]}: ")
            _check_skipped(folder, contents, len(paths))
        else:
            entry = {
                "name": name,
                "member": f"pictures/{index:06}.{suffix}",
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "height": pixels.shape[0],
                "width": pixels.shape[1],
            }
            contents.pictures[index] = entry, content
            contents.num_rounded += photo.pixels.dtype == np.float32
            num_bytes += len(content)
        projected = num_bytes * len(paths) / num_done
        if num_bytes > max_bytes or (num_done >= _NUM_PROJECTED and projected > _PROJECTION_MARGIN * max_bytes):
            raise _TooLargeError
        if on_picture:
            on_picture(num_done, len(paths))
    return contents


def _encode(path: Path, photo: Photo, setting: _Setting) -> tuple[np.ndarray[Any, Any], bytes, str]:
    """Return the pixels that are stored, their code, and the suffix of its format."""
    pixels = _cut(photo.pixels, setting.crop)
    if pixels.dtype == np.float32:
        pixels = from_float(pixels, np.uint16)
    if setting.quality == LOSSLESS:
        content, suffix = _encode_lossless(pixels)
    else:
        content, suffix = _by_pillow(_to_8_bits(pixels), "JPEG", quality=setting.quality, subsampling=0), "jpeg"
    original = _original(path, photo) if pixels.shape == photo.pixels.shape else None
    return (pixels, original, photo.format) if original and len(original) <= len(content) else (pixels, content, suffix)


def _encode_lossless(pixels: np.ndarray[Any, Any]) -> tuple[bytes, str]:
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and max(pixels.shape) < 2**14:  # the most that WebP holds
        return _by_pillow(pixels, "WEBP", lossless=True, quality=50, method=4), "webp"
    ordered = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return cv2.imencode(".png", ordered)[1].tobytes(), "png"


def _by_pillow(pixels: np.ndarray[Any, Any], kind: str, **settings: Any) -> bytes:  # noqa: ANN401  as Pillow takes them
    try:
        with io.BytesIO() as file:
            Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **settings)
            return file.getvalue()
    except OSError as error:  # a side above 65,500 pixels
        raise ImageError(f"{kind} cannot hold it ({error}); leave it out or cut it") from error


def _original(path: Path, photo: Photo) -> bytes | None:
    """Return the file's own bytes without metadata, if they decode to the same picture by what reads packs."""
    is_bare_webp = photo.format == "webp" and photo.exif is photo.xmp is photo.icc is None
    if photo.alpha is not None or not (photo.format in _STRIPPERS or is_bare_webp):
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; check the path and its permissions") from error
    content = _STRIPPERS.get(photo.format, bytes)(content)
    pixels = decode(content)
    return content if pixels is not None and np.array_equal(pixels, photo.pixels) else None


def _without_metadata(jpeg: bytes) -> bytes:
    """Leave out what is not needed to decode: APP1 to APP13 and comments."""
    kept, position = [], 0
    for marker, start, end in jpeg_segments(jpeg):
        if 0xE1 <= marker <= 0xED or marker == 0xFE:
            kept.append(jpeg[position : start - 4])
            position = end
        elif marker == 0xD9:
            kept.append(jpeg[position:end])
    return b"".join(kept)


_STRIPPERS = {"jpeg": _without_metadata, "png": png_pixels_only}


def _cut(pixels: np.ndarray[Any, Any], crop: int | None) -> np.ndarray[Any, Any]:
    """Cut what lies around the middle."""
    if crop is None:
        return pixels
    height, width = pixels.shape[:2]
    top, left = max(0, height - crop) // 2, max(0, width - crop) // 2
    return pixels[top : top + crop, left : left + crop]


def _to_8_bits(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels if pixels.dtype == np.uint8 else from_float(to_float(pixels), np.uint8)


def _check_skipped(folder: Path, contents: _Contents, num_all: int) -> None:
    num_bad = len(contents.skipped)
    if are_too_many(num_bad, num_all):
        names = some_names(name for name, _ in contents.skipped.values())
        raise NothingToDoError(
            f"{folder}: {num_bad} of {num_all} pictures cannot be read: {names}; repair or remove them"
        )


def _read_notes(folder: Path, paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Read the licences and descriptions in the folder and wherever there are pictures."""
    pictures, notes = set(paths), []
    try:
        for path in sorted(path for place in {folder, *(path.parent for path in paths)} for path in place.iterdir()):
            is_note = path.name.lower().startswith(_NOTES) and path.is_file() and not path.is_symlink()
            if is_note and path not in pictures and path.stat().st_size <= _MAX_NOTE_BYTES:
                notes.append((_name(folder, path)[0], path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{folder}: a licence in it cannot be read ({error}); check its permissions") from error
    return notes


def _archive(contents: _Contents, notes: Sequence[tuple[str, bytes]], setting: _Setting) -> memoryview:
    members = [(f"notes/{index:03}", content) for index, (_, content) in enumerate(notes)]
    pictures = [contents.pictures[index] for index in sorted(contents.pictures)]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "quality": setting.quality,
        "crop": setting.crop,
        "notes": [
            {"name": name, "member": member, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for (name, content), (member, _) in zip(notes, members, strict=True)
        ],
        "skipped": [{"name": name, "reason": reason} for _, (name, reason) in sorted(contents.skipped.items())],
        "pictures": [entry for entry, _ in pictures],
    }
    members += [(str(entry["member"]), content) for entry, content in pictures]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in [(MANIFEST, json.dumps(manifest, sort_keys=True).encode()), *members]:
            info = tarfile.TarInfo(name)  # no times and no owners, so that the same input gives the same bytes
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getbuffer()


def _name(folder: Path, path: Path) -> tuple[str, bytes]:
    """Return the path below the folder, as text and as bytes."""
    name = path.relative_to(folder).as_posix()
    return name, name.encode("utf-8", "surrogateescape")
