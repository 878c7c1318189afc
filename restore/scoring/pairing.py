"""Match two folders by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restore.errors import NothingToDoError, UsageError
from restore.images import find_images


@dataclass(frozen=True)
class Pair:
    """A reference and its restored picture; the name is the relative path without the extension."""

    name: str
    reference: Path
    restored: Path


@dataclass(frozen=True)
class Pairing:
    """Two folders matched by name.

    Attributes:
        pairs: sorted by name.
        only_reference: names of references without a restored picture.
        only_restored: names of restored pictures without a reference.
    """

    pairs: tuple[Pair, ...]
    only_reference: tuple[str, ...]
    only_restored: tuple[str, ...]


def pair_files(reference: Path, restored: Path) -> Pairing:
    """Match two folders by relative path without the extension; two files make one pair whatever their names.

    Raises:
        UsageError: a path is missing, a file stands against a folder, or two files of one folder have the same name.
        NothingToDoError: a folder holds no pictures, or no name is on both sides.
    """
    for path in (reference, restored):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; name one that exists")
    if reference.is_file() and restored.is_file():
        return Pairing((Pair(reference.stem, reference, restored),), (), ())
    for path, other in ((reference, restored), (restored, reference)):
        if not path.is_dir():
            raise UsageError(f"{path}: is a file, and {other} is a folder; compare two folders or two files")
    references, outputs = by_name(reference, restored), by_name(restored, reference)
    common = sorted(references.keys() & outputs.keys())
    if not common:
        raise NothingToDoError(
            f"{reference} and {restored}: no picture has the same name in both, extension aside "
            f"(such as {min(references)} and {min(outputs)}); rename one side"
        )
    return Pairing(
        tuple(Pair(name, references[name], outputs[name]) for name in common),
        tuple(sorted(references.keys() - outputs.keys())),
        tuple(sorted(outputs.keys() - references.keys())),
    )


def by_name(folder: Path, other: Path | None = None) -> dict[str, Path]:
    """Return the pictures of a folder by name, leaving out those of the other folder where that lies inside.

    Raises:
        UsageError: two files differ in their extensions alone.
        NothingToDoError: there are no pictures.
    """
    files: dict[str, Path] = {}
    inside = other is not None and folder.resolve() in other.resolve().parents
    for path in find_images(folder, exclude=other if inside else None):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UsageError(f"{files[name]} and {path}: the same name but for the extension; keep one of them")
        files[name] = path
    if not files:
        raise NothingToDoError(f"{folder}: no pictures in it; name a folder of pictures")
    return files
