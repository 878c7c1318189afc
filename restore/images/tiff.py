"""Reading TIFF: every depth, layout and compression that photographs come in.

OpenCV multiplies alpha into the pixels of 8-bit TIFFs and loses the alpha of grey ones; Pillow turns 16-bit colour into
8 bits. So only the decompression is left to others, in `tiff_segments`. What the samples mean is worked out here.

References:
    TIFF revision 6.0, Adobe, 1992; Adobe Photoshop TIFF Technical Notes 1 and 3, 2002 and 2005 (floats, predictor 3).
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restore.errors import ImageError
from restore.images.directories import Entry, Tag, TagBlock
from restore.images.photo import Pixels, change_depth, from_float, to_float
from restore.images.tiff_segments import (
    BLACK_IS_ZERO,
    CCITT,
    DEFLATE,
    JPEG,
    NOT_COMPRESSED,
    Layout,
    decode_segments,
)

_DEPTHS = {
    (1, 1): "u1",
    (1, 2): "u1",
    (1, 4): "u1",
    (1, 8): "u1",
    (1, 16): "u2",
    (3, 16): "f2",
    (3, 32): "f4",
    (3, 64): "f8",
}
_COMPRESSIONS = {1: "none", 2: "CCITT RLE", 3: "CCITT G3", 4: "CCITT G4", 5: "LZW", 6: "old JPEG", JPEG: "JPEG",
                 8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA",
                 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}  # fmt: skip
_LOSSLESS = {5, *DEFLATE, 32773, 34925, 50000}
_WITH_PREDICTOR = _LOSSLESS - {32773}  # PackBits has none, whatever a tag says
_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_MAX_PAGES = 10_000
_MAX_OVERHANG = 2**26  # pixels of a tile that is larger than the picture


class TiffPage:
    """The first picture of a TIFF file, or its first thumbnail where it holds nothing else.

    Args:
        data: the file.

    Raises:
        ImageError: it is a camera's raw file, or of a kind that cannot be read.
        ValueError: it is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self.block = TagBlock(data)
        directories = self._directories()
        self.entries = next(directories)
        if Tag.DNG_VERSION in self.entries or self._one(Tag.PHOTOMETRIC, 1) in (32803, 34892):
            raise ImageError("it is a camera's raw file, not supported yet; convert it to TIFF or PNG first")
        self.num_pages = int(not self._is_reduced(self.entries))
        for entries in directories:
            if not self._is_reduced(entries):
                self.entries = self.entries if self.num_pages else entries
                self.num_pages += 1
        if (depth := max(self._one(Tag.DEPTH, 1), self._one(Tag.TILE_DEPTH, 1))) > 1:
            raise ImageError(f"it is a volume of {depth} slices or more; save each as a picture of its own")
        self.width, self.height = self._one(Tag.WIDTH), self._one(Tag.HEIGHT)

    @property
    def orientation(self) -> int:
        """How the picture is turned, 1 to 8."""
        return self._one(Tag.ORIENTATION, 1)

    @property
    def is_compressed(self) -> bool:
        """Whether its pixels are, with or without loss."""
        return self._one(Tag.COMPRESSION, 1) != NOT_COMPRESSED

    @property
    def has_unnamed_channel(self) -> bool:
        """Whether the meaning of its extra channel is stated as unspecified."""
        return self._all(Tag.EXTRA_SAMPLES, ())[:1] == (0,)

    def blob(self, tag: int) -> bytes | None:
        """Return the bytes of a tag, or None."""
        return self.block.values(self.entries[tag]) if tag in self.entries else None

    def _directories(self) -> Iterator[dict[int, Entry]]:
        """Yield the entries of the first directory and those after it, up to a loop or a damaged one."""
        offset, seen = self.block.first, set[int]()
        while (offset or not seen) and offset not in seen and len(seen) < _MAX_PAGES:
            try:
                entries, next_field = self.block.directory(offset)
            except ValueError:
                if not seen:
                    raise
                return
            yield entries
            seen.add(offset)
            offset = self.block.next_offset(next_field)

    def _is_reduced(self, entries: Mapping[int, Entry]) -> bool:
        """Return whether a directory describes a thumbnail or a mask, which are no pictures of their own."""
        try:
            return Tag.SUBFILE in entries and bool(self.block.integers(entries[Tag.SUBFILE])[0] & 0b101)
        except (ValueError, IndexError):
            return False

    def _one(self, tag: int, default: int | None = None) -> int:
        values = self._all(tag, None if default is None else (default,))
        if not values:
            raise ValueError(f"tag {tag} is empty")
        return values[0]

    def _all(self, tag: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        entry: Entry | None = self.entries.get(tag)
        if entry is None:
            if default is None:
                raise ValueError(f"tag {tag} is missing")
            return default
        return self.block.integers(entry)

    def decode(self, *, allow_truncated: bool) -> tuple[NDArray[Any], NDArray[Any] | None, str, bool]:
        """Decode the pixels as they lie in the file.

        Returns:
            Samples (H,W), (H,W,3) or, for "CMYK", (H,W,4); alpha (H,W) or None; "grey", "RGB" or "CMYK"; and whether
            the end is missing (only with allow_truncated), its samples being 0.
        """
        compression = self._one(Tag.COMPRESSION, 1)
        photometric = self._one(Tag.PHOTOMETRIC, _WHITE_IS_ZERO if compression in CCITT else BLACK_IS_ZERO)
        may_be_scan = photometric in (_WHITE_IS_ZERO, BLACK_IS_ZERO)
        default_bits = (1,) if may_be_scan else None  # colours that do not tell their depth are damaged
        bits, formats = set(self._all(Tag.BITS, default_bits)), set(self._all(Tag.SAMPLE_FORMAT, (1,)))
        if len(bits) > 1 or len(formats) > 1:
            raise ImageError("its channels differ in depth; convert it to 8-bit, 16-bit or float TIFF")
        (num_bits,), (sample_format,) = bits, formats
        depth = _DEPTHS.get((1 if sample_format == 4 else sample_format, num_bits))
        if compression not in {NOT_COMPRESSED, JPEG, *_LOSSLESS, *(CCITT if num_bits == 1 else ())}:
            name = _COMPRESSIONS.get(compression, f"number {compression}")
            raise ImageError(f"its compression ({name}) is not supported; save it again with LZW, Deflate or none")
        if depth is None:
            kind = {1: "unsigned", 2: "signed", 3: "float"}.get(sample_format, "complex")
            raise ImageError(f"its samples are {num_bits}-bit {kind}; convert it to 8-bit, 16-bit or float TIFF")
        layout = self._layout(np.dtype(self.block.order + depth), num_bits)
        if (compression == JPEG and (num_bits != 8 or layout.num_samples > 4)) or (
            compression in CCITT and layout.num_samples > 1
        ):
            raise self._unsupported(num_bits, photometric)
        if photometric == _YCBCR:
            samples, is_truncated = self._decode_ycbcr(layout, allow_truncated=allow_truncated)
            return samples, None, "RGB", is_truncated
        samples, is_truncated = decode_segments(layout, allow_truncated=allow_truncated)
        if num_bits < 8:
            first = 1 if photometric == _PALETTE else 0  # its numbers of colours stay, opacity beside them does not
            samples[..., first:] *= np.uint8(255 // (2**num_bits - 1))
        return *self._interpret(samples, photometric), is_truncated

    def _layout(self, dtype: np.dtype[Any], num_bits: int) -> Layout:
        num_samples, planar = self._one(Tag.SAMPLES, 1), self._one(Tag.PLANAR, 1)
        if not 1 <= num_samples <= 5:
            raise ImageError(f"it has {num_samples} channels; grey, RGB or CMYK with at most one alpha are read")
        num_planes = num_samples if planar == 2 else 1
        is_tiled = Tag.TILE_OFFSETS in self.entries
        width = self._one(Tag.TILE_WIDTH) if is_tiled else self.width
        rows = self._one(Tag.TILE_HEIGHT) if is_tiled else min(self._one(Tag.STRIP_ROWS, self.height), self.height)
        max_pixels = self.width * self.height + _MAX_OVERHANG
        if not (0 < width <= self.width + 2**16 and 0 < rows <= self.height + 2**16 and width * rows <= max_pixels):
            raise ValueError("tiles or strips of an impossible size")
        across, down = math.ceil(self.width / width), math.ceil(self.height / rows)
        compression = self._one(Tag.COMPRESSION, 1)
        offsets, lengths = self._places(is_tiled=is_tiled)
        if min(len(offsets), len(lengths)) < num_planes * across * down:
            raise ValueError("fewer strips or tiles than the picture needs")
        return Layout(
            data=self.block.data,
            dtype=dtype,
            num_bits=num_bits,
            compression=compression,
            predictor=self._one(Tag.PREDICTOR, 1) if compression in _WITH_PREDICTOR else 1,
            fill_order=self._one(Tag.FILL_ORDER, 1),
            t4_options=self._one(Tag.T4_OPTIONS, 0),
            jpeg_tables=(self.blob(Tag.JPEG_TABLES) or b"") if compression == JPEG else b"",
            is_ycbcr=False,
            height=self.height,
            width=self.width,
            num_planes=num_planes,
            num_samples=num_samples // num_planes,
            is_tiled=is_tiled,
            segment_width=width,
            segment_rows=rows,
            across=across,
            down=down,
            offsets=offsets,
            lengths=lengths,
        )

    def _places(self, *, is_tiled: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the offsets and the lengths of strips or tiles; lengths that are not stated reach to the next one."""
        offsets = self._all(Tag.TILE_OFFSETS if is_tiled else Tag.STRIP_OFFSETS)
        lengths = self._all(Tag.TILE_BYTES if is_tiled else Tag.STRIP_BYTES, ())
        if all(offsets) and not (lengths and all(lengths)):
            ends = dict(itertools.pairwise([*sorted(set(offsets)), len(self.block.data)]))
            lengths = tuple(max(0, ends[start] - start) for start in offsets)
        return offsets, lengths

    def _decode_ycbcr(self, layout: Layout, *, allow_truncated: bool) -> tuple[Pixels, bool]:
        """Return RGB (H,W,3) of YCbCr, and whether some are missing."""
        num_channels = layout.num_planes * layout.num_samples
        if layout.compression == JPEG and num_channels == layout.num_samples == 3:
            return decode_segments(replace(layout, is_ycbcr=True), allow_truncated=allow_truncated)
        across, down = self._all(Tag.YCBCR_SUBSAMPLING, (2, 2))
        is_whole = (across, down) == (1, 1)
        can_be_split = (
            {across, down} <= {1, 2, 4}
            and layout.num_planes == layout.predictor == 1
            and (layout.across == 1 or layout.segment_width % across == 0)
            and (layout.down == 1 or layout.segment_rows % down == 0)
        )
        if layout.num_bits != 8 or num_channels != 3 or not (is_whole or can_be_split):
            raise self._unsupported(layout.num_bits, _YCBCR)
        if is_whole:
            samples, is_truncated = decode_segments(layout, allow_truncated=allow_truncated)
        else:
            units = _in_units(layout, across, down)
            samples, is_truncated = decode_segments(units, allow_truncated=allow_truncated)
            samples = _out_of_units(samples, across, down)[: self.height, : self.width]
        samples = self._full_range(samples)
        if is_truncated:
            samples[~samples.any(axis=2), 1:] = 128  # black, where 0 would be green
        return np.asarray(Image.fromarray(samples, "YCbCr").convert("RGB")), is_truncated

    def _full_range(self, ycbcr: Pixels) -> Pixels:
        """Return YCbCr whose black, white and colours reach from 0 to 255, which is also what is not stated."""
        if Tag.REFERENCE_BLACK_WHITE not in self.entries:
            return ycbcr
        values = struct.unpack(f"{self.block.order}12I", self.block.values(self.entries[Tag.REFERENCE_BLACK_WHITE]))
        black, white = np.divide(values[::2], np.maximum(values[1::2], 1), dtype=np.float32).reshape(3, 2).T
        if (*black, *white) == (0, 128, 128, 255, 255, 255) or (white <= black).any():  # nothing lies between
            return ycbcr
        widened: Pixels = (ycbcr - black) * (np.array((255, 127, 127), np.float32) / (white - black))
        widened += np.array((0, 128, 128), np.float32)
        return np.rint(widened).clip(0, 255).astype(np.uint8)

    def _unsupported(self, num_bits: int, photometric: int) -> ImageError:
        num_channels, planar = self._one(Tag.SAMPLES, 1), self._one(Tag.PLANAR, 1)
        return ImageError(
            f"its layout ({num_channels} channels of {num_bits} bits, photometric {photometric}, "
            f"planar {planar}) is not supported; convert it to grey or RGB of 8 bits"
        )

    def _interpret(self, samples: Pixels, photometric: int) -> tuple[Pixels, Pixels | None, str]:
        num_colors = {_RGB: 3, _CMYK: 4}.get(photometric, 1)
        num_extra = samples.shape[2] - num_colors
        if photometric not in (_WHITE_IS_ZERO, BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK) or not 0 <= num_extra <= 1:
            raise ImageError(
                f"its colours (photometric {photometric}, {samples.shape[2]} channels) are not supported; "
                "convert it to grey or RGB with at most one alpha"
            )
        colors = samples if num_colors > 1 else samples[..., 0]
        alpha = None
        if num_extra:
            colors = np.ascontiguousarray(samples[..., :num_colors] if num_colors > 1 else samples[..., 0])
            alpha = np.ascontiguousarray(samples[..., num_colors])
        if photometric == _PALETTE:
            colors = self._look_up(colors)
            return colors, None if alpha is None else change_depth(alpha, colors.dtype), "RGB"
        if photometric == _WHITE_IS_ZERO:
            if colors.dtype.kind == "f":
                raise ImageError("its floats count from white; convert it to TIFF with black as zero")
            colors = np.bitwise_not(colors)
        if alpha is not None and self._all(Tag.EXTRA_SAMPLES, (0,))[0] == 1:
            colors = _unmultiplied(colors, alpha)
        return colors, alpha, {_RGB: "RGB", _CMYK: "CMYK"}.get(photometric, "grey")

    def _look_up(self, indices: Pixels) -> Pixels:
        color_map = np.array(self._all(Tag.COLOR_MAP), np.uint16)
        if len(color_map) % 3 or indices.dtype.kind != "u" or int(indices.max()) >= len(color_map) // 3:
            raise ValueError("its palette does not fit its pixels")
        if color_map.max() < 256:  # old programs write 8 bits so
            color_map = color_map.astype(np.uint8)
        elif not (color_map % 257).any() or not (color_map % 256).any():  # both are ways to write 8 bits
            color_map = (color_map >> 8).astype(np.uint8)
        return np.ascontiguousarray(color_map.reshape(3, -1).T)[indices]


def _in_units(layout: Layout, across: int, down: int) -> Layout:
    """Describe YCbCr of fewer colours as samples of so many pixels each: their Y, row by row, then Cb and Cr."""
    return replace(
        layout,
        height=math.ceil(layout.height / down),
        width=math.ceil(layout.width / across),
        num_samples=across * down + 2,
        segment_width=math.ceil(layout.segment_width / across),
        segment_rows=math.ceil(layout.segment_rows / down),
    )


def _out_of_units(units: Pixels, across: int, down: int) -> Pixels:
    """Return YCbCr (H,W,3) of (H/down,W/across,across·down+2)."""
    height, width, _ = units.shape
    luma = units[..., :-2].reshape(height, width, down, across).swapaxes(1, 2).reshape(height * down, width * across)
    return np.dstack([luma, units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)])


def _unmultiplied(colors: Pixels, alpha: Pixels) -> Pixels:
    """Divide pixels by the alpha that was multiplied into them; where it is 0 they stay."""
    divisor = to_float(alpha.astype(np.float32) if alpha.dtype.kind == "f" else alpha)
    divisor = np.where(divisor > 0, divisor, np.float32(1))
    divisor = divisor if colors.ndim == 2 else divisor[..., None]
    if colors.dtype.kind == "f":
        quotient: Pixels = (colors / divisor).astype(np.float32)
        return quotient
    return from_float(to_float(colors) / divisor, colors.dtype)
