"""Import torchvision where its compiled operators do not fit torch.

The wheels of the package index link CUDA. Beside a CPU build of torch their `_C` library cannot be loaded, and the
import dies at the first operator that the library should have declared (`operator torchvision::nms does not exist`).
The networks need none of these operators: declaring their signatures is enough.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def import_torchvision() -> ModuleType:
    """Return torchvision, whatever torch it stands beside; operators that cannot be loaded are missing in it."""
    if "torchvision" not in sys.modules and not _loads_its_operators():
        declare_operators()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to load image Python extension", UserWarning)
        return importlib.import_module("torchvision")


@functools.cache
def declare_operators() -> torch.library.Library:
    """Declare the operators without a body; they live as long as the object returned, which the cache holds."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for signature in SIGNATURES:
        library.define(signature)  # type: ignore[no-untyped-call]
    return library


def _loads_its_operators() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for library in Path(folder).glob("_C*"):
            try:
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            except OSError:  # it links a CUDA that is not here
                continue
            return True
    return False
