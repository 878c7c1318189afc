"""Everything that `restore` raises on purpose.

    RestoreError              1   the base: catch it to catch them all
    ├── UsageError            2   an option, a configuration or a combination of paths makes no sense
    ├── NothingToDoError      3   the input holds nothing that can be used
    ├── ImageError            1   one picture cannot be read, restored or represented; the others go on
    ├── WeightsError          4   a weight file or checkpoint is missing, damaged or of the wrong kind
    ├── OutputError           5   the output cannot be written
    ├── DeviceError           6   the device is missing, or memory runs out
    ├── DivergedError         7   training produced NaN or exploded
    └── TeamError             1   one of several processes that train together died

The number is the exit code of the command line. Each message is one line that names the file and the remedy.
"""

from __future__ import annotations


class RestoreError(Exception):
    """Base of all errors raised on purpose; its message is one line for a person to act on."""

    exit_code = 1


class UsageError(RestoreError):
    """An option, a configuration or a combination of paths makes no sense."""

    exit_code = 2


class NothingToDoError(RestoreError):
    """The input holds nothing that can be used."""

    exit_code = 3


class ImageError(RestoreError):
    """One picture cannot be read, restored or represented."""

    exit_code = 1


class WeightsError(RestoreError):
    """A weight file or checkpoint is missing, damaged or of the wrong kind."""

    exit_code = 4


class OutputError(RestoreError):
    """The output cannot be written."""

    exit_code = 5


class DeviceError(RestoreError):
    """The device is missing, or memory runs out."""

    exit_code = 6


class DivergedError(RestoreError):
    """Training produced NaN or exploded."""

    exit_code = 7


class TeamError(RestoreError):
    """One of several processes that train together died."""

    exit_code = 1


def brief(error: Exception) -> str:
    """Return the first line of what an error of another library says, or its name where it says nothing."""
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
