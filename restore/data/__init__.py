"""Training data: photographs or pairs of them, the samples drawn from them, and batches of these.

`open_photos` (a folder or a pack), `open_pairs` and `open_frames` (of a video) give a source, `Mixture` joins several,
`split` its two parts, `TrainSamples` what a network is trained on, `batches` carries it to the training loop, and
`pack` makes one portable file of a folder.
"""

from __future__ import annotations

from restore.data.frames import Frames, frames_spanned, natural_order, open_frames, windows
from restore.data.loading import batches
from restore.data.packing import PackReport, pack
from restore.data.pairs import Pairs, open_pairs
from restore.data.patterns import draw_pattern
from restore.data.photos import Photos, open_photos
from restore.data.samples import Batch, Request, Sample, TrainSamples
from restore.data.sources import Mixture, Picture, Source, Subset, Tolerant, describe, split

__all__ = [
    "Batch",
    "Frames",
    "Mixture",
    "PackReport",
    "Pairs",
    "Photos",
    "Picture",
    "Request",
    "Sample",
    "Source",
    "Subset",
    "Tolerant",
    "TrainSamples",
    "batches",
    "describe",
    "draw_pattern",
    "frames_spanned",
    "natural_order",
    "open_frames",
    "open_pairs",
    "open_photos",
    "pack",
    "split",
    "windows",
]
