"""Match two folders by name."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from restore.errors import NothingToDoError, UsageError
from restore.images import HIDDEN, find_images

_EXPECTED = {HIDDEN}  # reasons to pass over a file that nobody needs to hear of


@dataclass(frozen=True)
class Pair:
    """A reference and its restored picture; the name is the relative path without the extension."""

    name: str
    reference: Path
    restored: Path


@dataclass(frozen=True)
class Skipped:
    """Files of one folder that were passed over for one reason; the names are paths relative to the folder."""

    folder: Path
    reason: str
    names: tuple[str, ...]

    @property
    def message(self) -> str:
        """Number, reason and an example, in one line."""
        noun = "file" if len(self.names) == 1 else "files"
        return f"{self.folder}: {len(self.names)} {noun} left out, {self.reason} (such as {self.names[0]})"


@dataclass(frozen=True)
class Pairing:
    """Two folders matched by name.

    Attributes:
        pairs: sorted by name.
        only_reference: names of references without a restored picture.
        only_restored: names of restored pictures without a reference.
        skipped: files of both folders that were passed over.
    """

    pairs: tuple[Pair, ...]
    only_reference: tuple[str, ...]
    only_restored: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()


class Listing(NamedTuple):
    """The pictures of a folder by name, and the files that were passed over.

    Attributes:
        files: by relative path without the extension; with it where two differ in nothing else.
        twins: of each of the latter, all that share its name.
        skipped: the others.
    """

    files: dict[str, Path]
    twins: dict[str, list[Path]]
    skipped: tuple[Skipped, ...]


def pair_files(reference: Path, restored: Path, others: Sequence[Path] = ()) -> Pairing:
    """Match two folders by relative path without the extension; two files make one pair whatever their names.

    Pictures that differ in their extensions alone are matched by their whole names.

    Args:
        reference: folder or file.
        restored: likewise.
        others: further folders that are compared; like these two they are no part of a folder that they lie in.

    Raises:
        UsageError: a path is missing, a file stands against a folder, or two files of one folder differ in their
            extensions alone and have no partners of the same whole names.
        NothingToDoError: a folder holds no pictures, or no name is on both sides.
    """
    for path in (reference, restored):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; name one that exists")
    if reference.is_file() and restored.is_file():
        return Pairing((Pair(reference.stem, reference, restored),), (), ())
    for path, other in ((reference, restored), (restored, reference)):
        if not path.is_dir() and not path.is_file():
            raise UsageError(f"{path}: is neither a file nor a folder; save what comes out of it first")
        if not path.is_dir():
            raise UsageError(f"{path}: is a file, and {other} is a folder; compare two folders or two files")
    ours, theirs = (by_name(path, (reference, restored, *others)) for path in (reference, restored))
    for listing, partners in ((ours, theirs.files), (theirs, ours.files)):
        if alone := listing.twins.keys() - partners.keys():
            first, second, *_ = listing.twins[min(alone)]
            raise UsageError(f"{first} and {second}: the same name but for the extension; keep one of them")
    common = sorted(ours.files.keys() & theirs.files.keys())
    if not common:
        raise NothingToDoError(
            f"{reference} and {restored}: no picture has the same name in both, extension aside "
            f"(such as {min(ours.files)} and {min(theirs.files)}); rename one side"
        )
    return Pairing(
        tuple(Pair(name, ours.files[name], theirs.files[name]) for name in common),
        tuple(sorted(ours.files.keys() - theirs.files.keys())),
        tuple(sorted(theirs.files.keys() - ours.files.keys())),
        tuple(dict.fromkeys([*ours.skipped, *theirs.skipped])),  # once where a folder is compared with itself
    )


def by_name(folder: Path, others: Sequence[Path] = ()) -> Listing:
    """Return the pictures of a folder by name, leaving out those of the other folders that lie inside.

    Raises:
        NothingToDoError: there are no pictures.
    """
    real = folder.resolve()
    inside = [other for other in map(Path.resolve, others) if real in other.parents]

    @functools.cache
    def is_elsewhere(parent: Path) -> bool:
        return any(parent.resolve().is_relative_to(other) for other in inside)

    by_stem: dict[str, list[Path]] = {}
    skipped: dict[str, list[str]] = {}

    def skip(path: Path, reason: str) -> None:
        if not (inside and is_elsewhere(path.parent)):
            skipped.setdefault(reason, []).append(str(path.relative_to(folder)))

    for path in find_images(folder, on_skip=skip):
        if inside and is_elsewhere(path.parent):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        by_stem.setdefault(unicodedata.normalize("NFC", stem), []).append(path)  # systems store accents in two ways
    shared = [_by_whole_name(folder, paths) for paths in by_stem.values() if len(paths) > 1]
    twins = {name: [*named.values()] for named in shared for name in named}
    files = {name: path for named in shared for name, path in named.items()}
    for stem, (path, *others_of_stem) in by_stem.items():
        if not others_of_stem:  # a.png.jpg keeps its whole name beside a.png and a.tif
            files[path.relative_to(folder).as_posix() if stem in twins else stem] = path
    found = tuple(Skipped(folder, reason, tuple(names)) for reason, names in sorted(skipped.items()))
    if not files:
        why = f" ({found[0].message.removeprefix(f'{folder}: ')})" if found else ""
        raise NothingToDoError(f"{folder}: no pictures in it{why}; name a folder of pictures")
    return Listing(files, twins, tuple(item for item in found if item.reason not in _EXPECTED))


def _by_whole_name(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Return files of one stem by their names with the extension, accents composed unless that makes two the same."""
    names = [path.relative_to(folder).as_posix() for path in paths]
    composed = [unicodedata.normalize("NFC", name) for name in names]
    return dict(zip(composed if len(set(composed)) == len(names) else names, paths, strict=True))
