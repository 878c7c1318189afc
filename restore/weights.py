"""Weight files: the catalogue of those shipped, their format and checksum, and the official NAFNet checkpoints.

A weight file is safetensors. Its metadata hold one entry, `restore`: a JSON document that says what the network is
(architecture and settings), what it was trained for and on, and how it scores; and the sha256 of that document and
every tensor, which safetensors itself does not have. Nothing is guessed, and no code in the file is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from restore.atomic import write_atomically
from restore.ensemble import ENSEMBLES
from restore.errors import WeightsError, brief
from restore.memory import is_out_of_memory
from restore.models import ARCHITECTURES, NAFNet, NAFNetConfig
from restore.models.nafnet import Stage
from restore.settings import unknown
from restore.types import Task

FORMAT_VERSION = 1
METADATA_KEY = "restore"
NUM_CHANNELS = 3
PUBLISHED_DEBLURRING = [1, 1, 1, 28]  # blocks of the encoder of the networks for GoPro and REDS
MAX_EXPANSION = 10  # of a packed checkpoint
PUBLISHED_TLC_PX = 384  # 1.5 times their training patches, as their evaluation does it

CATALOGUE = {
    "deblur": "deblur.safetensors",
    "deblur-fast": "deblur-fast.safetensors",
    "denoise": "denoise.safetensors",
    "denoise-best": "denoise-best.safetensors",
    "denoise-fast": "denoise-fast.safetensors",
    "denoise-lka": "denoise-lka.safetensors",
}

_REMEDY = "download it again or name another; `restore models` lists what is shipped"
_OTHER = "choose other weights; `restore models` lists what is shipped"
_ARCHIVE = b"PK\x03\x04"
_CONTAINERS = ("params_ema", "params", "state_dict", "model", "net")
_PREFIXES = ("module.", "netG.")


@dataclass(frozen=True)
class WeightsInfo:
    """What a weight file says of itself.

    Args:
        path: the file.
        document: its JSON document; for a foreign checkpoint, what could be read off the tensors.
        num_parameters: of the network.
        num_bytes: size of the file.
    """

    path: Path
    document: Mapping[str, Any]
    num_parameters: int
    num_bytes: int

    @property
    def name(self) -> str:
        """Name of the weights."""
        return str(self.document.get("name", self.path.stem))

    @property
    def task(self) -> Task | None:
        """What the network undoes; None where a foreign checkpoint does not say."""
        task = self.document.get("task")
        return None if task is None else Task(task)

    @property
    def tlc_px(self) -> int | None:
        """Side of the surroundings under TLC, in pixels; None where it does not help."""
        return self.document.get("tlc_px")

    @property
    def tlc_px_of_training(self) -> int | None:
        """Side of the surroundings under TLC that goes with the training patches; None where the file does not say."""
        try:
            patches = self.document["training"]["config"]["patches"]
            return 3 * max(int(stage["size"]) for stage in patches) // 2
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @property
    def ensemble(self) -> int:
        """How many orientations of a picture they are meant to restore and average."""
        return int(self.document.get("ensemble", 1))

    @property
    def sha256(self) -> str:
        """Checksum over document and tensors; it identifies the weights."""
        return str(self.document["sha256"])


def load_weights(name_or_path: str | Path, task: Task | None = None) -> tuple[nn.Module, WeightsInfo]:
    """Build the network that a weight file describes and fill it.

    Args:
        name_or_path: a name of the catalogue, a `.safetensors` file, an official NAFNet checkpoint (`.pth`), or the
            folder of a training run.
        task: refuse weights that say they are for another one.

    Returns:
        The network in float32, in evaluation mode, and what the file says of itself.

    Raises:
        WeightsError: the file is missing, damaged, hostile, too new, or for another task or network.
    """
    path = find_weights(name_or_path)
    tensors, document = _read(path)
    info = WeightsInfo(
        path=path,
        document=document,
        num_parameters=sum(tensor.numel() for tensor in tensors.values()),
        num_bytes=path.stat().st_size,
    )
    if task is not None and info.task not in (None, task):
        raise WeightsError(f"{path}: expected weights to {task}, found weights to {info.task}; {_OTHER}")
    return _build(path, document, tensors), info


def read_info(name_or_path: str | Path) -> WeightsInfo:
    """Return what a weight file says of itself, its checksum verified.

    Raises:
        WeightsError: as `load_weights`.
    """
    return load_weights(name_or_path)[1]


def save_weights(path: Path, network: nn.Module, document: Mapping[str, Any]) -> None:
    """Write a weight file that describes itself, atomically.

    Args:
        path: ends in `.safetensors`.
        network: its state is saved as it is.
        document: JSON types; `architecture` and `network` must rebuild the network. The format version and the
            checksum are added.

    Raises:
        OSError: as the system says it.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    complete = {**document, "format_version": FORMAT_VERSION}
    complete["sha256"] = _sha256(tensors, complete)
    write_atomically(path, save(tensors, {METADATA_KEY: json.dumps(complete, sort_keys=True)}))


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file that a name, a path or a run folder stands for.

    Raises:
        WeightsError: there is none.
    """
    text = str(name_or_path)
    if text in CATALOGUE:
        path = shipped_folder() / CATALOGUE[text]
        if not path.is_file():
            raise WeightsError(f"{path}: the shipped weights are missing; reinstall restore")
        return path
    if re.match(r"[a-z][a-z0-9+.-]+://", text):
        raise WeightsError(f"{text}: weights are read from files only; download it and name the file")
    path = Path(name_or_path)
    if path.is_dir():
        best = path / "best.safetensors"  # of a training run
        if best.is_file():
            return best
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise WeightsError(f"{path}: {len(found)} .safetensors files in this folder; name the file")
        return found[0]
    if not path.exists():
        raise WeightsError(f"{text}: no such file, and {unknown(text, CATALOGUE, 'model')}")
    return path


def shipped_folder() -> Path:
    """Return the folder of the shipped weights: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent / "weights"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        if path.stat().st_size == 0:
            raise WeightsError(f"{path}: the file is empty; {_REMEDY}")
        if path.suffix == ".safetensors":
            tensors, document = _read_safetensors(path)
        else:
            tensors, document = _read_pickle(path), None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; check the path and its permissions") from error
    if document is None:
        return _adopt(path, tensors)
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise WeightsError(f"{path}: format {version!r} is unknown, perhaps newer than this program; upgrade restore")
    if document.get("task") not in list(Task):
        raise WeightsError(f"{path}: weights for an unknown task {document.get('task')!r}; upgrade restore")
    tlc_px = document.get("tlc_px")
    if tlc_px is not None and (type(tlc_px) is not int or tlc_px < 1):
        raise WeightsError(f"{path}: TLC over {tlc_px!r} pixels has no meaning; {_REMEDY}")
    if (ensemble := document.get("ensemble", 1)) not in list(ENSEMBLES):
        raise WeightsError(f"{path}: an ensemble of {ensemble!r} has no meaning; {_REMEDY}")
    if document.get("sha256") != _sha256(tensors, document):
        raise WeightsError(f"{path}: the checksum (sha256) does not match, the file is damaged; {_REMEDY}")
    return tensors, document


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
        document = json.loads(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a safetensors file, or a damaged one ({brief(error)}); {_REMEDY}") from error
    if document is not None and not isinstance(document, dict):
        raise WeightsError(f"{path}: its description is not a JSON object; {_REMEDY}")
    return tensors, document


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        _check_expansion(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has people file an issue on pickles of other versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise anything; nothing in them was executed
        if isinstance(error, OSError | WeightsError) or is_out_of_memory(error):
            raise
        raise WeightsError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); "
            f"only tensors are accepted, and no code in it was run; {_REMEDY}"
        ) from error
    if isinstance(content, dict):
        content = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content or not all(map(_is_dense, content.values())):
        raise WeightsError(f"{path}: holds no network weights; {_REMEDY}")
    return {_without_prefix(str(key)): tensor for key, tensor in content.items()}


def _check_expansion(path: Path) -> None:
    """Refuse archives that would take many times their size in memory; torch itself compresses nothing."""
    with path.open("rb") as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:  # the format before torch 1.6, as torch tells it
            return
    with zipfile.ZipFile(path) as archive:
        expansion = sum(member.file_size for member in archive.infolist()) / path.stat().st_size
    if expansion > MAX_EXPANSION:
        raise WeightsError(f"{path}: would expand to {expansion:.0f} times its size, as no checkpoint does; {_REMEDY}")


def _is_dense(value: object) -> bool:
    """Whether it is a tensor that holds all its values, not a sparse, nested, repeating or empty one of some kind."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta or value.is_nested:
        return False
    return value.nbytes <= value.untyped_storage().nbytes()


def _without_prefix(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _adopt(path: Path, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Describe a foreign checkpoint by what its tensors show."""
    try:
        config = _published_config(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{path}: expected the weights of a NAFNet, found another network; {_OTHER}") from error
    document: dict[str, Any] = {"name": path.stem, "architecture": "nafnet", "network": config.as_dict()}
    if [stage.num_blocks for stage in config.encoder] == PUBLISHED_DEBLURRING:
        document["tlc_px"] = PUBLISHED_TLC_PX
    return tensors, document | {"sha256": _sha256(tensors, document)}


def _published_config(tensors: Mapping[str, Tensor]) -> NAFNetConfig:
    def num_blocks(prefix: str) -> int:
        return len({int(key[len(prefix) :].split(".")[0]) for key in tensors if key.startswith(prefix)})

    num_levels = sum(re.fullmatch(r"downs\.\d+\.weight", key) is not None for key in tensors)
    width, channels = tensors["intro.weight"].shape[:2]
    return NAFNetConfig(
        width=width,
        channels=channels,
        encoder=tuple(Stage(num_blocks(f"encoders.{level}.")) for level in range(num_levels)),
        middle=Stage(num_blocks("middle_blks.")),
        decoder=tuple(Stage(num_blocks(f"decoders.{level}.")) for level in range(num_levels)),
        padding="constant",
    )


def _build(path: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    architecture = document.get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise WeightsError(
            f"{path}: expected one of the architectures {known}, found {architecture!r}; upgrade restore"
        )
    try:
        _check_num_blocks(document["network"], len(tensors))
        with torch.device("meta"):
            network: NAFNet = ARCHITECTURES[architecture](document["network"])
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{path}: its settings describe no {architecture} ({brief(error)}); {_OTHER}") from error
    if network.config.channels != NUM_CHANNELS:
        raise WeightsError(f"{path}: expected a network for 3 channels, found {network.config.channels}; {_OTHER}")
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if expected != found:
        raise WeightsError(f"{path}: {_first_difference(expected, found)}; {_OTHER}")
    floats = {key: tensor.float() for key, tensor in tensors.items()}
    if not all(tensor.isfinite().all() for tensor in floats.values()):
        raise WeightsError(f"{path}: holds weights that are NaN or infinite; {_REMEDY}")
    network.load_state_dict(floats, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def _check_num_blocks(settings: Mapping[str, Any], num_tensors: int) -> None:
    """Raise ValueError where more blocks are stated than there are tensors: building them could take all memory."""
    num_blocks = sum(stage["num_blocks"] for stage in (*settings["encoder"], settings["middle"], *settings["decoder"]))
    if num_blocks > num_tensors:
        raise ValueError(f"{num_blocks} blocks of {num_tensors} tensors")


def _first_difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    key = next(key for key in sorted({*expected, *found}) if expected.get(key) != found.get(key))
    return f"{key}: expected {expected.get(key, 'nothing')}, found {found.get(key, 'nothing')}"


def _sha256(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    described = {key: value for key, value in document.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
