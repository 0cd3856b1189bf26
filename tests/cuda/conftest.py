"""Tests on a GPU; without one they are skipped.

SAMA_TEST_DEVICE=cpu runs those that need no GPU on the CPU: so the tests themselves are tested.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

DEVICE = os.environ.get("SAMA_TEST_DEVICE", "cuda")
HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        for item in items:
            if str(item.path).startswith(HERE):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is here"))


@pytest.fixture(autouse=True)
def _whole_float32() -> Iterator[None]:
    """Convolutions in float32, not in TensorFloat-32, which has bf16's digits plus three."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def cuda() -> torch.device:
    """For what the CPU has nothing like."""
    if DEVICE != "cuda":
        pytest.skip("only a CUDA device has this")
    return torch.device("cuda")
