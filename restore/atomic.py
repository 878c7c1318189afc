"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
from pathlib import Path


def _space_of_pids() -> str:
    """Return what tells containers apart that share the name of their host: to one, processes of another look dead."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return ""


_HOST = hashlib.blake2b(f"{socket.gethostname()} {_space_of_pids()}".encode(), digest_size=4).hexdigest()
_PARTIAL = re.compile(rf"\.restore-{_HOST}-(\d+)-[0-9a-f]+\.partial")


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write bytes to a temporary file in the same folder, flush them to the disk and rename.

    Whatever goes wrong, a signal included, no part of a file stands under the final name and the temporary file goes.

    Raises:
        OSError: as the system says it.
    """
    partial = path.with_name(f".restore-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep_partials(folder: Path) -> None:
    """Remove the temporary files that killed processes of this host, or container, left in a folder."""
    for entry in os.scandir(folder):
        match = _PARTIAL.fullmatch(entry.name)
        if match and not _is_alive(int(match.group(1))):
            with contextlib.suppress(PermissionError):  # another person's, in a folder such as /tmp
                Path(entry.path).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else, so it lives
        return True
    return True
