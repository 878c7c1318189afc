"""What lossy formats do to a picture, for who writes such files and who imitates them."""

from __future__ import annotations

LONGEST_SIDES = {"jpeg": 65500, "webp": 16383}  # in pixels
FULL_CHROMA_QUALITY = 90  # from here on our JPEG files keep the colours at full resolution
