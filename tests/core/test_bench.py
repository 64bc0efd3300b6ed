"""The benchmark, on a model small enough for a test; its figures say nothing here, their form does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archroute import SettingError
from archroute.bench import run
from archroute.bench.material import conversation, policies
from archroute.bench.plot import plot
from archroute.bench.weights import CONFIG

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 8192,
}


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setitem(CONFIG, name, value)
        return run(quick=True, step=said.append), said


def test_a_quick_run_tells_all_it_promises(measured: tuple[dict[str, Any], list[str]]):
    result, said = measured
    for told in (result, result["exact"]):
        for state in ("warm", "cold"):
            assert told[state]["ms"] > 0
            assert told[state]["over_floor"] > 0
            assert "quanto_generate" in told[state]["over"]
            assert told[state]["over"].keys() & {"bf16_generate", "fp32_generate"}  # whichever is faster here
    assert result["policies_200_over_10"] == pytest.approx(result["ms_by_policies"][200] / result["ms_by_policies"][10])
    assert result["turn_20_over_2"] == pytest.approx(result["ms_by_turns"][20] / result["ms_by_turns"][2])
    assert result["memory_gb"]["resident"] > 0
    assert result["memory_gb"]["preparing_peak"] > 0
    assert "stand-in" in result["tokenizer"]
    assert "torch" in result["machine"]
    assert any("quanto" in step for step in said)


def test_a_result_can_be_drawn(measured: tuple[dict[str, Any], list[str]], tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib")
    plot(measured[0], tmp_path / "latency.svg")
    assert "<svg" in (tmp_path / "latency.svg").read_text(encoding="utf-8")


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in SMALL.items():
        monkeypatch.setitem(CONFIG, name, value)
    with pytest.raises(SettingError, match=r"no tokenizer\.json"):
        run(quick=True, tokenizer=tmp_path)


def test_material_has_names_that_differ_and_turns_that_end_with_the_user():
    assert len({policy.name for policy in policies(200)}) == 200
    for turns in (1, 2, 20):
        made = conversation(turns, 3).turns
        assert [turn.role for turn in made].count("user") == turns
        assert made[-1].role == "user"
    assert conversation(5).turns[:7] == conversation(4).turns  # the next turn of the same conversation


def test_other_endings_than_pictures_are_refused(tmp_path: Path):
    with pytest.raises(SettingError, match="png"):
        plot({}, tmp_path / "latency.pdf")
