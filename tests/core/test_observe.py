"""What is told of every turn: records to a file and to a logger, and counts."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from records import a_decision, a_shadow, a_turn

from archroute import SettingError
from archroute.decision import Attempt
from archroute.observe import Counterfactual, JsonlObserver, LogObserver, ShadowRecord, Stats, TurnRecord, Usage

FULL = a_turn(
    Attempt(target="small", outcome="passed_over", cause="it calls no tools"),
    Attempt(target="mid", outcome="failed", cause="RateLimitError", latency_ms=12.5),
    Attempt(target="big", outcome="served", latency_ms=400.0),
    session="user-1",
    usage=Usage(input_tokens=1000, output_tokens=50),
    cost=0.25,
    counterfactual=(Counterfactual(target="new", role="arm", latency_ms=310.0, cost=0.125),),
    text="May I deduct “this”?\nAnd 🧾?",
)


# Usage


def test_of_pieces_of_one_answer_the_larger_count_stands():
    begun, ended = Usage(input_tokens=100, output_tokens=1), Usage(output_tokens=7)
    assert begun.joined(ended) == ended.joined(begun) == Usage(input_tokens=100, output_tokens=7)
    assert begun.joined(None) == begun


# To a file


def test_a_line_of_the_file_reads_back_as_the_record(tmp_path: Path):
    observer = JsonlObserver(tmp_path / "turns.jsonl")
    observer.turn_ended(FULL, None)
    observer.shadow_ended(a_shadow())
    turn, shadow = (tmp_path / "turns.jsonl").read_text(encoding="utf-8").splitlines()
    assert TurnRecord.model_validate_json(turn) == FULL
    assert ShadowRecord.model_validate_json(shadow) == a_shadow()
    assert [json.loads(line)["kind"] for line in (turn, shadow)] == ["turn", "shadow"]


def test_a_line_says_why_each_target_did_not_serve(tmp_path: Path):
    JsonlObserver(tmp_path / "turns.jsonl").turn_ended(FULL, None)
    line = json.loads((tmp_path / "turns.jsonl").read_text(encoding="utf-8"))
    assert [(attempt["target"], attempt["cause"]) for attempt in line["decision"]["attempts"]] == [
        ("small", "it calls no tools"),
        ("mid", "RateLimitError"),
        ("big", None),
    ]
    assert line["counterfactual"] == [{"target": "new", "role": "arm", "latency_ms": 310.0, "cost": 0.125}]


def test_lines_are_appended_to_what_is_there(tmp_path: Path):
    for _ in range(2):
        JsonlObserver(tmp_path / "turns.jsonl").turn_ended(FULL, None)
    assert len((tmp_path / "turns.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_threads_do_not_mix_their_lines(tmp_path: Path):
    observer = JsonlObserver(tmp_path / "turns.jsonl")
    with ThreadPoolExecutor(8) as pool:
        for number in range(400):
            pool.submit(observer.turn_ended, a_turn(id=str(number), text="x" * 5000), None)
    lines = (tmp_path / "turns.jsonl").read_text(encoding="utf-8").splitlines()
    assert {TurnRecord.model_validate_json(line).id for line in lines} == {str(number) for number in range(400)}


def test_a_path_that_cannot_be_written_is_told_at_once(tmp_path: Path):
    for path in (tmp_path / "no" / "such" / "turns.jsonl", tmp_path):
        with pytest.raises(SettingError, match="can't be written") as caught:
            JsonlObserver(path)
        assert str(path) in caught.value.message
        assert caught.value.hint


# To a logger


@pytest.mark.parametrize(
    ("outcome", "level"), [("served", logging.INFO), ("failed", logging.WARNING), ("left", logging.WARNING)]
)
def test_a_turn_without_an_answer_is_a_warning(caplog: pytest.LogCaptureFixture, outcome: str, level: int):
    with caplog.at_level(logging.DEBUG, logger="archroute.turns"):
        LogObserver().turn_ended(a_turn(outcome=outcome), None)
    assert [(entry.name, entry.levelno) for entry in caplog.records] == [("archroute.turns", level)]


def test_the_line_names_the_way_of_the_turn_and_holds_the_whole_record(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        LogObserver(logging.getLogger("mine")).turn_ended(FULL, None)
    (entry,) = caplog.records
    assert entry.name == "mine"
    assert entry.getMessage() == (
        "route=tax rule=matched target=big outcome=served cause=None attempts=3 ms=500"  # no text, no session
    )
    assert TurnRecord.model_validate(entry.archroute) == FULL
    assert json.loads(json.dumps(entry.archroute)) == entry.archroute


def test_a_failed_shadow_is_no_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        LogObserver().shadow_ended(a_shadow(outcome="failed", cause="TimeoutError"))
    (entry,) = caplog.records
    assert entry.levelno == logging.INFO
    assert entry.getMessage() == "shadow route=tax target=new outcome=failed cause=TimeoutError ms=250"
    assert entry.archroute["turn"] == "turn-1"


# Counts


def test_nothing_has_happened_yet():
    assert Stats().snapshot() == {
        "turns": 0,
        "routes": {},
        "rules": {},
        "outcomes": {},
        "targets": {},
        "shadows": {},
        "deciding_ms": None,
    }
    assert Stats().mean_latency("tax", "big") is None


def test_turns_are_counted_by_route_rule_outcome_and_target():
    stats = Stats()
    stats.turn_ended(FULL, None)
    stats.turn_ended(a_turn(Attempt(target="big", outcome="served", latency_ms=200.0), route="travel", cost=0.5), None)
    stats.turn_ended(a_turn(Attempt(target="mid", outcome="timed_out", cause="TimeoutError"), outcome="failed"), None)
    told = stats.snapshot()
    assert told["turns"] == 3
    assert told["routes"] == {"tax": 2, "travel": 1}
    assert told["rules"] == {"matched": 3}
    assert told["outcomes"] == {"served": 2, "failed": 1}
    assert told["targets"] == {
        "small": {"passed_over": 1, "latency_ms": None, "cost": None},
        "mid": {"failed": 1, "timed_out": 1, "latency_ms": None, "cost": None},
        "big": {"served": 2, "latency_ms": 300.0, "cost": 0.75},
    }
    assert stats.mean_latency("tax", "big") == 400.0
    assert stats.mean_latency("travel", "big") == 200.0
    json.dumps(told)


def test_a_kept_decision_is_no_time_of_deciding():
    stats = Stats()
    stats.turn_ended(a_turn(decision=a_decision(Attempt(target="big", outcome="served"), latency_ms=10.0)), None)
    kept = a_decision(Attempt(target="big", outcome="served"), latency_ms=90.0)
    stats.turn_ended(a_turn(decision=kept, rule="tool_loop"), None)
    assert stats.snapshot()["deciding_ms"] == 10.0
    assert stats.snapshot()["rules"] == {"matched": 1, "tool_loop": 1}


def test_shadows_count_apart_but_their_latency_is_that_of_the_target():
    stats = Stats()
    stats.shadow_ended(a_shadow())
    stats.shadow_ended(a_shadow(outcome="failed", latency_ms=9.0, cost=None))
    assert stats.mean_latency("tax", "new") == 250.0
    told = stats.snapshot()
    assert told["turns"] == 0
    assert told["targets"] == {}
    assert told["shadows"]["new"]["served"] == told["shadows"]["new"]["failed"] == 1
    assert told["shadows"]["new"]["latency_ms"] == 250.0
    assert told["shadows"]["new"]["cost"] == 0.5


def test_no_count_is_lost_among_threads():
    stats, begin = Stats(), threading.Barrier(8)

    def turns() -> None:
        begin.wait()
        for _ in range(250):
            stats.turn_ended(FULL, None)
            stats.shadow_ended(a_shadow())
            stats.snapshot()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(turns) for _ in range(8)]:
            done.result()
    told = stats.snapshot()
    assert told["turns"] == told["routes"]["tax"] == told["targets"]["big"]["served"] == 2000
    assert told["shadows"]["new"]["served"] == 2000
    assert told["targets"]["big"]["cost"] == 500.0
    assert told["deciding_ms"] == 20.0
