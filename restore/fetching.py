"""The weights of metrics: where they come from, where they lie, and how to tell them from others.

They are not shipped: each is found in one folder, stated by an option, by RESTORE_WEIGHTS, or else the cache in the
home folder, and is downloaded only when asked for (`restore models fetch NAME`). A file counts by its content alone.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import os
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restore.checksum import sha256_of
from restore.errors import OutputError, UsageError, WeightsError, brief

ENVIRONMENT_VARIABLE = "RESTORE_WEIGHTS"
CACHE = Path("~/.cache/restore/weights")
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 3  # a broken connection goes on where it broke
CHUNK = 2**18

OnProgress = Callable[[int, "int | None"], None]
"""(bytes done, bytes in all where known)."""


@dataclass(frozen=True)
class MetricWeights:
    """One weight file, as its authors publish it.

    Attributes:
        metric: what needs it, as `--metrics` calls it.
        url: the official address.
        num_bytes: its size.
        sha256: of the file. The authors publish the first eight digits, as a part of the file name; the others were
            taken from independent public records that agree.
        also: file names and sha256 of other files that hold the same weights.
    """

    metric: str
    url: str
    num_bytes: int
    sha256: str
    also: tuple[tuple[str, str], ...] = ()

    @property
    def file_name(self) -> str:
        """The name that its authors gave it."""
        return self.url.rpartition("/")[2]


CATALOGUE: dict[str, MetricWeights] = {
    "lpips-alex": MetricWeights(
        metric="lpips",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        num_bytes=244_408_911,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "lpips-squeeze": MetricWeights(
        metric="lpips-squeeze",
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        num_bytes=4_958_839,
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        also=(
            (
                "squeezenet1_1-features.pth",  # the trunk alone
                "435cedb387e95bc8291893f61a3a64f0345b8c23a05139aceef43947efb3d52d",
            ),
        ),
    ),
    "lpips-vgg": MetricWeights(
        metric="lpips-vgg",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        num_bytes=553_433_881,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "inception-fid": MetricWeights(
        metric="fid",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        num_bytes=95_628_359,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
}


def entry(name: str) -> MetricWeights:
    """Return what the catalogue says under a name.

    Raises:
        UsageError: there is no such name.
    """
    if name not in CATALOGUE:
        nearest = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.3)
        guess = f"did you mean {nearest[0]}? " if nearest else ""
        raise UsageError(f"{name}: no such metric weights; {guess}there are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def weights_folder(weights_dir: Path | None = None) -> Path:
    """Return the folder stated, or that of the environment variable RESTORE_WEIGHTS, or the cache; ~ is the home."""
    stated = weights_dir or Path(os.environ.get(ENVIRONMENT_VARIABLE) or CACHE)
    return Path(os.path.expanduser(stated))  # noqa: PTH111  that of pathlib raises for a user who does not exist


def fetch_command(name: str, folder: Path) -> str:
    """Return the command that brings metric weights into a folder."""
    option = "" if folder == weights_folder() else f" --weights-dir {shlex.quote(str(folder))}"
    return f"restore models fetch {name}{option}"


def find_weights(name: str, weights_dir: Path | None = None) -> Path:
    """Return the file of metric weights, by its name alone: whoever loads it checks its content by `read_verified`.

    Args:
        name: as in CATALOGUE.
        weights_dir: where to look instead of RESTORE_WEIGHTS or the cache.

    Raises:
        UsageError: the catalogue does not know the name.
        WeightsError: the file is not there; the message says how to get it and how to do without.
    """
    weights, folder = entry(name), weights_folder(weights_dir)
    for file_name in (weights.file_name, *(other for other, _ in weights.also)):
        if (folder / file_name).is_file():
            return folder / file_name
    raise WeightsError(
        f"{name}: {weights.file_name} is not in {folder}; get it with `{fetch_command(name, folder)}`, or put the "
        f"file of {weights.url} there, or leave {weights.metric} out"
    )


def read_verified(path: Path, name: str) -> bytes:
    """Read a weight file and make sure that it is the one that the catalogue means, whatever it is called.

    Raises:
        WeightsError: it cannot be read, or its sha256 is another.
    """
    weights = entry(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest not in (weights.sha256, *(other for _, other in weights.also)):
        raise WeightsError(
            f"{path}: is not {weights.file_name} (sha256 {digest[:8]}… instead of {weights.sha256[:8]}…); remove it "
            f"and run `{fetch_command(name, path.parent)}`"
        )
    return data


def fetch(name: str, folder: Path, on_progress: OnProgress = lambda _done, _total: None) -> Path:
    """Download metric weights from their official address, and go on where an earlier attempt broke off.

    The bytes gather in a `.part` file beside the target, which gets its name once the sha256 is right. A file that is
    there and right is left alone, and nothing is downloaded.

    Args:
        name: as in CATALOGUE.
        folder: where the file goes; made if absent.
        on_progress: called as the bytes come.

    Returns:
        The file.

    Raises:
        UsageError: the catalogue does not know the name.
        WeightsError: the address does not answer, the connection breaks, or the file is not the expected one.
        OutputError: the folder cannot be written.
    """
    weights = entry(name)
    target, part = folder / weights.file_name, folder / f"{weights.file_name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and sha256_of(target) == weights.sha256:
            return target
        _download(weights, part, on_progress)
        digest = sha256_of(part)
        if digest != weights.sha256:
            part.unlink()
            raise WeightsError(
                f"{name}: what {weights.url} sends is not {weights.file_name} (sha256 {digest[:8]}… instead of "
                f"{weights.sha256[:8]}…); it was thrown away, try again later"
            )
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return target


def _download(weights: MetricWeights, part: Path, on_progress: OnProgress) -> None:
    by_hand = f"{weights.file_name} can also be put into {part.parent} by hand"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue_download(weights.url, part, on_progress)
        except urllib.error.HTTPError as error:  # noqa: PERF203  three turns
            error.close()
            raise WeightsError(f"{weights.url}: answers {error.code} {error.reason}; {by_hand}") from None
        except (_ConnectionBrokeError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                raise WeightsError(
                    f"{weights.url}: {brief(error)}; run the same command again to go on; {by_hand}"
                ) from error
        else:
            return


def _continue_download(url: str, part: Path, on_progress: OnProgress) -> None:
    """Append to the part file what the server still has; start it anew where the server cannot skip.

    Raises:
        urllib.error.HTTPError: the server refuses.
        _ConnectionBrokeError: it does not answer, or stops in the middle.
    """
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "restore"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  an https address of the catalogue
        with _answer(request) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                done = 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length is not None else None
            on_progress(done, total)
            with part.open("ab" if done else "wb") as file:
                while chunk := _read(response):
                    file.write(chunk)
                    done += len(chunk)
                    on_progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        error.close()
        if done == _size_in(error.headers.get("Content-Range")):  # all was there already
            return
        part.unlink()
        raise _ConnectionBrokeError("the part that was there does not belong to the file") from None
    if total is not None and done < total:
        raise _ConnectionBrokeError(f"the connection broke off after {done} of {total} bytes")


class _ConnectionBrokeError(Exception):
    """The network failed, not the disk."""


def _answer(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310  as above
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _ConnectionBrokeError(f"does not answer ({error.reason})") from error
    except OSError as error:
        raise _ConnectionBrokeError(f"does not answer ({error})") from error
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except OSError as error:
        raise _ConnectionBrokeError(f"the connection broke off ({error})") from error


def _size_in(content_range: str | None) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(match.group(1)) if match else None
