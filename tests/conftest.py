"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on pictures this small, threads cost far more than they give

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def same_weights_whatever_ran_before() -> None:
    """Let networks without weights of their own begin as they would if a test ran alone."""
    import torch  # noqa: PLC0415  only after the number of threads is set

    torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `--store` renew the stored pictures of tests/golden."""
    parser.addoption("--store", action="store_true", help="store what tests/golden compares with anew")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the project; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the data folder ../shared, which is absent here")
    return folder
