"""What several tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TINY = Path(__file__).parent / "fixtures" / "tiny_arch_router"


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """The small trained checkpoint that answers Arch-Router's prompt; see its README."""
    return TINY


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The directory with the real tokenizer, the reference prompts and the public data sets."""
    directory = os.environ.get("ARCHROUTE_TEST_DATA")
    if not directory:
        pytest.skip("ARCHROUTE_TEST_DATA names no directory with the reference data")
    return Path(directory)


@pytest.fixture(scope="session")
def real_tokenizer(test_data: Path) -> Path:
    """The directory of Qwen2.5's own tokenizer."""
    return test_data / "qwen2.5-tokenizer"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without prepared models whose hub is out of reach; the project's cache."""
    monkeypatch.setenv("ARCHROUTE_HOME", str(tmp_path / "archroute"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "archroute"
