"""OpenCV, set up before its first import: no size limit of its own, nothing written to stderr."""

from __future__ import annotations

import os

from restore.errors import RestoreError

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**40))  # read_photo checks the size, and earlier

try:
    import cv2
except ImportError as error:  # opencv-python links libGL, which a server may lack
    raise RestoreError(
        f"OpenCV cannot be loaded ({error}); install libgl1, or opencv-python-headless instead of opencv-python"
    ) from error

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

__all__ = ["cv2"]
