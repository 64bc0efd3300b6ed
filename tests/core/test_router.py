"""The router: decisions, thresholds, failures, batches, threads."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from archroute import (
    OTHER,
    Conversation,
    ConversationError,
    Decision,
    Domain,
    EngineError,
    Policy,
    Router,
    SettingError,
)
from archroute.engines.base import Engine, Scores
from archroute.policy import PolicySet
from archroute.serving import Serving

POLICIES = [Policy("travel", "Planning trips"), Policy("tax", "Tax law and returns")]


class Fixed(Engine):
    """Gives the policies the probabilities it is told, whatever is asked."""

    name = "fixed"

    def __init__(self, **probabilities: float) -> None:
        self.probabilities = probabilities
        self.asked: list[tuple[Sequence[Policy], Sequence[Conversation]]] = []
        self.threads: set[int] = set()

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        self.asked.append((routes, conversations))
        self.threads.add(threading.get_ident())
        return [Scores(self.probabilities, 0.9, 12, False) for _ in conversations]


class Broken(Engine):
    """Fails on every call."""

    name = "broken"

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        raise EngineError("out of memory")


def test_the_likeliest_policy_is_chosen():
    decision = Router(POLICIES, model=Fixed(travel=0.7, tax=0.1, other=0.2)).route("flights")
    assert (decision.route, decision.reason) == ("travel", "matched")
    assert decision.policy == POLICIES[0]
    assert decision.confidence == pytest.approx(0.7)
    assert decision.margin == pytest.approx(0.5)
    assert decision.coverage == pytest.approx(0.9)
    assert decision.probabilities == {"travel": 0.7, "tax": 0.1, "other": 0.2}
    assert decision.prompt_tokens == 12
    assert decision.model == "fixed"
    assert decision.latency_ms > 0
    assert not decision.truncated
    assert decision.error is None


def test_other_is_chosen_when_no_policy_fits():
    decision = Router(POLICIES, model=Fixed(travel=0.2, tax=0.1, other=0.7)).route("hello")
    assert (decision.route, decision.policy, decision.reason) == (OTHER, None, "other")
    assert decision.confidence == pytest.approx(0.7)


@pytest.mark.parametrize(("floor", "reason"), [(0.6, "low_confidence"), (0.5, "matched")])
def test_below_the_floor_no_policy_is_chosen(floor: float, reason: str):
    engine = Fixed(travel=0.5, tax=0.3, other=0.2)
    decision = Router(POLICIES, model=engine, min_confidence=floor).route("flights")
    assert decision.reason == reason
    assert decision.route == ("travel" if reason == "matched" else OTHER)
    assert decision.confidence == pytest.approx(0.5)


def test_the_floor_does_not_turn_other_into_something_else():
    decision = Router(POLICIES, model=Fixed(travel=0.3, tax=0.3, other=0.4), min_confidence=0.9).route("x")
    assert decision.reason == "other"


@pytest.mark.parametrize(("margin", "reason"), [(0.26, "low_margin"), (0.25, "matched")])
def test_too_near_to_the_next_no_policy_is_chosen(margin: float, reason: str):
    decision = Router(POLICIES, model=Fixed(travel=0.5, tax=0.25, other=0.25), min_margin=margin).route("flights")
    assert decision.reason == reason
    assert decision.route == ("travel" if reason == "matched" else OTHER)
    assert decision.margin == pytest.approx(0.25)


async def test_a_domain_serves_what_none_of_its_actions_is_sure_of():
    trips = Domain("trips", "Trips", actions=[Policy("flights", "Flights"), Policy("hotels", "Hotels")])
    engine = Fixed(flights=0.4, hotels=0.3, trips=0.1, tax=0.0, other=0.2)
    router = Router([trips, POLICIES[1]], model=engine, min_confidence=0.5)
    for decision in (router.route("Rome"), await router.aroute("Rome")):
        assert (decision.route, decision.reason) == ("trips", "domain")
        assert decision.policy == trips.route
        assert decision.confidence == pytest.approx(0.4)
        assert decision.margin == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("common", "own", "reason"),
    [(0.6, 0.4, "matched"), (0.0, 0.6, "low_confidence"), (0.6, None, "low_confidence"), (0.4, None, "matched")],
)
def test_a_policys_own_floor_stands_before_the_routers(common: float, own: float | None, reason: str):
    policies = PolicySet(POLICIES, serving={"travel": Serving(min_confidence=own)})
    decision = Router(policies, model=Fixed(travel=0.5, tax=0.3, other=0.2), min_confidence=common).route("flights")
    assert decision.reason == reason


def test_policies_reach_the_engine_in_the_order_given():
    engine = Fixed(z=1.0, b=0.0, a=0.0, other=0.0)
    Router([Policy("z", "x"), Domain("a", "x", actions=[Policy("b", "x")])], model=engine).route("hi")
    assert [route.name for route in engine.asked[0][0]] == ["z", "b", "a"]


def test_history_is_what_the_engine_reads():
    chat = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "reply"},
        {"role": "user", "content": "two"},
    ]
    for history, turns in (("all", 3), ("last_user", 1), (1, 1), (2, 3)):
        engine = Fixed(travel=1.0, tax=0.0, other=0.0)
        Router(POLICIES, model=engine, history=history).route(chat)
        assert len(engine.asked[0][1][0].turns) == turns


def test_a_decision_cannot_be_changed():
    decision = Router(POLICIES, model=Fixed(travel=0.7, tax=0.1, other=0.2)).route("flights")
    with pytest.raises(ValidationError):
        decision.route = "tax"
    with pytest.raises(TypeError):
        decision.probabilities["tax"] = 1.0  # type: ignore[index]
    with pytest.raises(TypeError):
        decision.probabilities.update(tax=1.0)  # type: ignore[attr-defined]
    assert hash(decision) == hash(copy.deepcopy(decision))


def test_a_decision_is_json_and_survives_pickle_and_copy():
    decision = Router(POLICIES, model=Fixed(travel=0.7, tax=0.1, other=0.2)).route("flights")
    told = json.loads(decision.model_dump_json())
    assert told == json.loads(json.dumps(decision.as_dict()))
    assert told["policy"] == {"name": "travel", "description": "Planning trips"}
    assert told["reason"] == "matched"
    assert Decision.model_validate(told) == decision
    assert pickle.loads(pickle.dumps(decision)) == decision
    assert copy.deepcopy(decision) == decision


def test_failures_are_raised_or_end_in_the_default(caplog: pytest.LogCaptureFixture):
    with pytest.raises(EngineError, match="out of memory"):
        Router(POLICIES, model=Broken()).route("flights")
    with caplog.at_level(logging.WARNING, "archroute"):
        decision = Router(POLICIES, model=Broken(), on_error="default").route("flights")
    assert (decision.route, decision.policy, decision.reason) == (OTHER, None, "error")
    assert decision.error == "EngineError: out of memory"
    assert decision.probabilities == {}
    assert "out of memory" in caplog.text


def test_nothing_to_route_is_raised_or_ends_in_the_default():
    engine = Fixed(travel=1.0, tax=0.0, other=0.0)
    with pytest.raises(ConversationError):
        Router(POLICIES, model=engine).route([])
    decision = Router(POLICIES, model=engine, on_error="default").route([])
    assert decision.reason == "error"
    assert "no user message" in str(decision.error)
    assert not engine.asked


def test_one_unreadable_conversation_leaves_the_others_of_a_batch_alone():
    engine = Fixed(travel=1.0, tax=0.0, other=0.0)
    decisions = Router(POLICIES, model=engine, on_error="default").route_many(["a", [], "b", [{"role": "x"}]])
    assert [decision.reason for decision in decisions] == ["matched", "error", "matched", "error"]
    assert len(engine.asked) == 1
    assert len(engine.asked[0][1]) == 2


def test_an_empty_batch_is_empty():
    assert Router(POLICIES, model=Fixed(travel=1.0, tax=0.0, other=0.0)).route_many([]) == []


@pytest.mark.parametrize("name", ["min_confidence", "min_margin"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_impossible_floors_are_refused(name: str, value: float):
    with pytest.raises(SettingError, match=name):
        Router(POLICIES, model=Fixed(), **{name: value})  # type: ignore[arg-type]


def test_unknown_error_rules_are_refused():
    with pytest.raises(SettingError, match="on_error"):
        Router(POLICIES, model=Fixed(), on_error="ignore")  # type: ignore[arg-type]


async def test_async_decisions_leave_the_event_loop_free():
    engine = Fixed(travel=1.0, tax=0.0, other=0.0)
    router = Router(POLICIES, model=engine)
    decisions = await asyncio.gather(*(router.aroute(f"turn {number}") for number in range(20)))
    assert {decision.route for decision in decisions} == {"travel"}
    assert threading.get_ident() not in engine.threads
    assert [decision.route for decision in await router.aroute_many(["a", "b"])] == ["travel", "travel"]


def test_threads_get_their_own_answers():
    router = Router(PolicySet(POLICIES), model="embedded")
    asked = ["book a flight to Rome", "how do I file my tax return?"] * 20
    with ThreadPoolExecutor(8) as pool:
        routes = [decision.route for decision in pool.map(router.route, asked)]
    assert routes == [decision.route for decision in router.route_many(asked)]
