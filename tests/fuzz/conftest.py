"""How many inputs each kind gets, how many were tried, and a cache that goes away."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, settings

TRIED: Counter[str] = Counter()
# `make fuzz` asks for more; this is the normal test suite's share, of all kinds together.
INPUTS = int(os.environ.get("SAMA_FUZZ_INPUTS", "300"))
KINDS = 17
fuzzed = settings(
    max_examples=max(1, -(-INPUTS // KINDS)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=INPUTS <= 300,  # the same inputs each time in the normal test suite
    database=None,
)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("hf-datasets")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[], None]:
    """To be called once for each input."""
    name = request.node.originalname
    return lambda: TRIED.update([name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all inputs of a kind: hypothesis calls a test's body many times."""
    return tmp_path_factory.mktemp("fuzz")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "SAMA_FUZZ_INPUTS" in os.environ and TRIED:
        for name, count in TRIED.items():
            terminalreporter.write_line(f"{count:7,} inputs  {name}")
        terminalreporter.write_line(f"{TRIED.total():7,} inputs in all")
