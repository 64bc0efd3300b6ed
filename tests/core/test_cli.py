"""The command line, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archroute import Decision

POLICY_FILE = """\
policies:
  - {name: trip_planning, description: "Planning holidays, flights and hotels"}
  - {name: recipes, description: Cooking recipes and ingredients}
"""


def archroute(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archroute", *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def policies(tmp_path: Path) -> str:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICY_FILE, encoding="utf-8")
    return str(file)


def write_cases(file: Path, *cases: dict[str, object]) -> str:
    file.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    return str(file)


def case(text: str, answer: str, kind: str) -> dict[str, object]:
    offered = [
        {"name": "trip_planning", "description": "Planning holidays, flights and hotels"},
        {"name": "recipes", "description": "Cooking recipes and ingredients"},
    ]
    return {"policies": offered, "conversation": [{"role": "user", "content": text}], "answer": answer, "kind": kind}


def test_version():
    done = archroute("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("archroute ")


def test_route_prints_json_with_the_decisions_keys(policies: str):
    done = archroute("route", "a hotel in Rome, please", "--policies", policies, "--model", "embedded", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == set(Decision.model_fields)
    assert told["route"] == "trip_planning"


def test_route_prints_a_table_with_bars(policies: str):
    done = archroute("route", "how long do I bake a lasagne?", "--policies", policies, "--model", "embedded")
    assert done.returncode == 0, done.stderr
    assert "→ recipes" in done.stdout
    assert "█" in done.stdout


def test_route_reads_the_turns_before(policies: str, tmp_path: Path):
    history = tmp_path / "history.json"
    turns = [
        {"role": "user", "content": "recipe for lasagne?"},
        {"role": "assistant", "content": "Layer pasta and sauce."},
    ]
    history.write_text(json.dumps(turns), encoding="utf-8")
    arguments = ("route", "and how long does it bake?", "--policies", policies, "--model", "embedded", "--json")
    alone, after = archroute(*arguments), archroute(*arguments, "--history", str(history))
    assert json.loads(after.stdout)["prompt_tokens"] > json.loads(alone.stdout)["prompt_tokens"]


@pytest.mark.parametrize("threshold", ["--min-confidence", "--min-margin"])
def test_route_goes_to_the_default_below_a_threshold(policies: str, threshold: str):
    arguments = ("route", "a hotel in Rome, please", "--policies", policies, "--model", "embedded", "--json")
    told = json.loads(archroute(*arguments, threshold, "0.9999").stdout)
    assert max(told["probabilities"], key=told["probabilities"].get) == "trip_planning"
    assert told["route"] == "other"


def test_eval_counts_by_kind(tmp_path: Path):
    cases = write_cases(
        tmp_path / "cases.jsonl",
        case("book a flight to Oslo", "trip_planning", "easy"),
        case("how long do I bake a lasagne?", "recipes", "easy"),
        case("how long do I bake a lasagne?", "trip_planning", "wrong"),
    )
    done = archroute("eval", cases, "--model", "embedded", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["total"] == {"n": 3, "correct": 2, "accuracy": pytest.approx(2 / 3)}
    assert told["kinds"]["easy"]["accuracy"] == 1
    assert told["kinds"]["wrong"] == {"n": 1, "correct": 0, "accuracy": 0}
    assert told["model"]
    assert told["ms_per_decision"] > 0
    table = archroute("eval", cases, "--model", "embedded")
    assert "easy" in table.stdout
    assert "66.7%" in table.stdout


def test_eval_runs_the_trained_checkpoint(tmp_path: Path, tiny_checkpoint: Path):
    lines = (tiny_checkpoint / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(lines), encoding="utf-8")
    done = archroute("eval", str(cases), "--model", str(tiny_checkpoint), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["{"], "line 1: no valid JSON"),
        ([json.dumps(case("x", "recipes", "k")), json.dumps({"policies": []})], "line 2, field conversation"),
        ([json.dumps(case("x", "cooking", "k"))], "line 1, field answer: 'cooking'"),
        ([json.dumps(case("", "recipes", "k"))], "line 1, field conversation"),
        (
            [json.dumps(case("x", "recipes", "k") | {"policies": [{"name": "other", "description": "x"}]})],
            "line 1, field policies",
        ),
        (
            [json.dumps(case("x", "recipes", "k") | {"policies": [{"name": "a"}]})],
            "line 1, field policies.0.description",
        ),
        ([], "has no cases"),
    ],
)
def test_faulty_cases_name_line_and_field(tmp_path: Path, lines: list[str], told: str):
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    done = archroute("eval", str(file), "--model", "embedded")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_faulty_files_are_told_without_a_traceback(policies: str, tmp_path: Path):
    history = tmp_path / "history.json"
    history.write_text("[\n{]", encoding="utf-8")
    for arguments, told in [
        (("route", "x", "--policies", str(tmp_path / "none.yaml")), "none.yaml"),
        (("route", "x", "--policies", policies, "--history", str(history)), "line 2"),
        (("route", "", "--policies", policies, "--model", "embedded"), "no user message"),
        (("route", "x", "--policies", policies, "--model", "./nowhere"), "nowhere"),
        (("eval", str(tmp_path / "none.jsonl")), "none.jsonl"),
    ]:
        done = archroute(*arguments)
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_demo_goes_through_both_frameworks():
    done = archroute("demo")
    assert done.returncode == 0, done.stderr
    assert "LangChain" in done.stdout
    assert "LlamaIndex" in done.stdout
    for route in ("code_generation", "image_editing", "summarisation"):
        assert done.stdout.count(route) >= 3  # the list of policies, and a turn through each framework
