"""From `model=` to an engine, and pulling from a hub."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import hub

from archroute import DownloadError, ModelError, Policy, Router, SettingError
from archroute.engines.arch_router.prepare import prepare
from archroute.evaluate import read_cases
from archroute.models import DEFAULT_MODEL, load_engine, prepared_directory

POLICIES = [Policy("travel", "Planning trips"), Policy("tax", "Tax law and returns")]


def pull(endpoint: str, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`archroute pull` in a process of its own: the hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "ARCHROUTE_HOME": str(home / "archroute")}
    return subprocess.run(
        [sys.executable, "-m", "archroute", "pull", *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "0", **settings, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_prepared_model_the_embedded_one_serves_and_says_so(offline: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "archroute"):
        router = Router(POLICIES)
    assert router.route("book me a flight").model == load_engine("embedded").name
    (line,) = caplog.messages
    assert "embedded" in line
    assert "archroute pull" in line


def test_a_prepared_arch_router_is_preferred(offline: Path, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture):
    prepare(tiny_checkpoint, prepared_directory(DEFAULT_MODEL))
    with caplog.at_level(logging.INFO, "archroute"):
        router = Router(POLICIES)
    assert router.route("hello").model == DEFAULT_MODEL
    (line,) = caplog.messages
    assert DEFAULT_MODEL in line
    assert "embedded" in line


def test_a_directory_is_a_model(tiny_checkpoint: Path):
    assert Router(POLICIES, model=tiny_checkpoint).route("hello").model == "tiny_arch_router"
    assert Router(POLICIES, model=str(tiny_checkpoint)).route("hello").model == "tiny_arch_router"


def test_routers_share_an_engine():
    assert load_engine("embedded") is load_engine("embedded")
    engine = load_engine("embedded")
    assert load_engine(engine) is engine


def test_without_network_the_error_says_what_to_do(offline: Path):
    with pytest.raises(DownloadError, match="archroute pull") as caught:
        Router(POLICIES, model=DEFAULT_MODEL)
    assert caught.value.retryable
    assert 'model="embedded"' in str(caught.value)


@pytest.mark.parametrize("model", ["./nowhere", "nowhere", Path("no/where"), "/abs/nowhere", "a/b/c"])
def test_missing_directories_are_named(model: str | Path):
    with pytest.raises(ModelError, match="nowhere|no/where|a/b/c"):
        load_engine(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(SettingError, match="model is a int"):
        load_engine(3)  # type: ignore[arg-type]


def test_pull_fetches_quantises_and_keeps(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    with hub(tiny_checkpoint, "org/tiny") as (endpoint, asked):
        done = pull(endpoint, tmp_path, "org/tiny")
        assert done.returncode == 0, done.stderr
        assert any("/resolve/" in path and path.endswith("model.safetensors") for path in asked)
        assert not any("heldout" in path for path in asked if "/resolve/" in path)
    monkeypatch.setenv("ARCHROUTE_HOME", str(tmp_path / "archroute"))
    case = read_cases(tiny_checkpoint / "heldout.jsonl")[0]
    decision = Router(case.policies, model="org/tiny").route(case.conversation)  # the hub is gone by now
    assert decision.model == "org/tiny"
    assert decision.route == Router(case.policies, model=tiny_checkpoint).route(case.conversation).route


def test_pull_asks_for_the_revision_and_sends_the_token(tmp_path: Path, tiny_checkpoint: Path):
    with hub(tiny_checkpoint, "org/tiny", token="hf_test") as (endpoint, asked):
        refused = pull(endpoint, tmp_path, "org/tiny", "--revision", "v2")
        assert refused.returncode == 1
        assert "HF_TOKEN" in refused.stderr
        assert "Traceback" not in refused.stderr
        done = pull(endpoint, tmp_path, "org/tiny", "--revision", "v2", HF_TOKEN="hf_test")
        assert done.returncode == 0, done.stderr
        assert any(path.startswith("/api/models/org/tiny/revision/v2") for path in asked)
    assert (tmp_path / "archroute" / "org--tiny" / "v2" / "config.json").is_file()


def test_pull_tells_a_missing_model_and_a_missing_network(tmp_path: Path, tiny_checkpoint: Path):
    with hub(tiny_checkpoint, "org/tiny") as (endpoint, _):
        missing = pull(endpoint, tmp_path, "org/unknown")
        assert missing.returncode == 1
        assert "org/unknown" in missing.stderr
    unreachable = pull(endpoint, tmp_path, "org/tiny")
    assert unreachable.returncode == 1
    assert "embedded" in unreachable.stderr
    assert "Traceback" not in unreachable.stderr
    offline = pull(endpoint, tmp_path, "org/tiny", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "Traceback" not in offline.stderr


def test_pull_prepares_a_local_checkpoint(tmp_path: Path, tiny_checkpoint: Path):
    done = pull("http://127.0.0.1:9", tmp_path, str(tiny_checkpoint), "--out", str(tmp_path / "prepared"))
    assert done.returncode == 0, done.stderr
    assert Router(POLICIES, model=tmp_path / "prepared").route("hello").probabilities
