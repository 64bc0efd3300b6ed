"""Splits and sessions: who is served by whom, from one turn to the next."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver

from archroute import PolicyError
from archroute.dispatch import Dispatch, Split, session
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, Route, RunnableRouter
from tests.engines import KeywordEngine
from tests.langchain.fakes import SECRET, FakeModel
from tests.langchain.talk import answers, ask, bookings, who
from tests.langchain.ways import WAYS


@pytest.fixture
def split(arguments, models, records):
    """Two models that share a route."""

    def make(kind=RunnableRouter, shares=(0.7, 0.3), **settings):
        arms = {"old": models["coder"], "new": models["painter"]}
        route = Route("code", "Programs", target=Split(arms, dict(zip(arms, shares, strict=True))))
        settings = {"dispatch": Dispatch(observers=[records]), **settings}
        return kind(**arguments | {"routes": [route], **settings})

    return make


def thread(key):
    return {"configurable": {"thread_id": str(key)}}


def text(answer):
    return answer.text if hasattr(answer, "text") else answers(answer)[-1]


def agent_of(model, *tools, **settings):
    """An agent over a router, whichever it is."""
    if isinstance(model, ArchRouterMiddleware):
        return create_agent(FakeModel(label="own"), tools=tools, middleware=[model], **settings)
    return create_agent(model, tools=tools, **settings)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
def test_a_thread_stays_on_its_side(split, kind, way):
    router = split(kind)
    sides = [{way(router, "a bug", thread(key))[1]["target"] for _ in range(2)} for key in range(12)]
    assert all(len(side) == 1 for side in sides)
    assert set.union(*sides) == {"old", "new"}


def test_the_sides_have_their_shares(split):
    router = split()
    served = Counter(who(answer) for answer in router.batch(["a bug"] * 300, [thread(key) for key in range(300)]))
    assert 0.6 < served["coder"] / 300 < 0.8
    assert {name: counts["served"] for name, counts in router.stats()["targets"].items()} == {
        "old": served["coder"],
        "new": served["painter"],
    }


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"configurable": {"session_id": "7"}}, {}),
        ({"metadata": {"thread_id": 7}}, {}),
        ({"metadata": {"session_id": "7"}}, {}),
        ({"metadata": {"user": 7}}, {"session": lambda _, config: config["metadata"]["user"]}),
        ({}, {"session": lambda said, _: said and 7}),
    ],
)
def test_a_session_is_told_in_several_ways(split, records, config, settings):
    split(**settings).invoke("a bug", config)
    assert records.turns[0].session == "7"


def test_a_session_may_be_told_around_the_call(split, records):
    with session("7"):
        split().invoke("a bug")
        split(session=lambda *_: None).invoke("a bug")
    split(session=lambda *_: 1 / 0).invoke("a bug")
    assert [record.session for record in records.turns] == ["7", "7", None]


def test_shares_change_while_turns_are_served(split):
    model = split(ArchRouterChatModel)
    bound, structured = model.bind_tools([bookings]), model.with_structured_output({"title": "A", "type": "object"})
    model.change_shares("code", {"new": 1.0})
    assert {who(router.invoke("a bug", thread(key))) for router in (model, bound) for key in range(6)} == {"painter"}
    structured.invoke("a bug")
    assert model.stats()["targets"] == structured.stats()["targets"]
    assert model.stats()["targets"]["new"]["served"] == 13
    for wrong in ({"newest": 1.0}, {"new": 0.5}):
        with pytest.raises(PolicyError):
            model.change_shares("code", wrong)
    with pytest.raises(PolicyError, match="no split"):
        split().change_shares("trips", {"new": 1.0})


KINDS = [ArchRouterChatModel, ArchRouterMiddleware]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threaded", [True, False])
async def test_a_loop_over_tools_goes_on_with_the_side_that_began_it(split, engine, models, records, kind, threaded):
    engine.words["code"].append("bookings")
    model = split(kind, shares=(0.5, 0.5))
    agent = agent_of(model, bookings, checkpointer=InMemorySaver() if threaded else None)
    for key in range(8):
        config, said = (thread(key) if threaded else {}), f"bookings {key}"
        moved = [(1.0, 0.0), (0.0, 1.0)][key % 2]
        models["coder"].wait = models["painter"].wait = lambda moved=moved: model.change_shares(
            "code", dict(zip(("old", "new"), moved, strict=True))
        )
        await agent.ainvoke({"messages": [("human", said)]}, config)
        first, second = records.turns[-2:]
        assert first.target == second.target
        assert (first.rule, second.rule) == ("matched", "tool_loop")
    assert len(engine.calls) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_side_that_stood_in_goes_on_with_the_loop(split, models, kind):
    calls = []
    models["coder"].wait = lambda: calls.append(1) or (len(calls) == 1 and 1 / 0)
    model = split(kind, shares=(1.0, 0.0))
    state = ask(agent_of(model, bookings), "a bug in my bookings")
    assert answers(state) == ["", "generalist: 3 bookings"]
    assert model.stats()["rules"] == {"matched": 1, "tool_loop": 1}


@pytest.mark.parametrize("kind", [RunnableRouter, *KINDS])
def test_a_session_moves_when_another_route_is_worth_the_switch(arguments, kind, own):
    engine = KeywordEngine({"code": ["bug", "both"], "trips": ["flight", "both", "far"]})
    settings = {"dispatch": Dispatch(switch_cost=0.5), "model": engine, "history": "last_user"}
    router = kind(**arguments | settings)
    runs = router if kind is RunnableRouter else agent_of(router, checkpointer=InMemorySaver())

    def served(said, key="1"):
        return text(runs.invoke(said if kind is RunnableRouter else {"messages": [("human", said)]}, thread(key)))

    assert served("a bug").startswith("coder")
    assert served("both, far").startswith("coder")  # trips is likelier, yet not by so much
    assert served("both, far", "2").startswith("guide")
    assert served("a flight").startswith("guide")
    assert router.stats()["rules"] == {"matched": 3, "sticky": 1}


def test_the_state_tells_the_attempts_of_the_turn(arguments, models, own):
    models["coder"].fails = True
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)], checkpointer=InMemorySaver())
    kept = ask(agent, "a bug", thread(1))["archroute"]
    assert kept == json.loads(json.dumps(kept)) == agent.get_state(thread(1)).values["archroute"]
    assert (kept["route"], kept["target"]) == ("code", "generalist")
    assert [attempt["outcome"] for attempt in kept["attempts"]] == ["failed", "served"]


def test_an_agent_that_decides_at_every_step_is_not_kept(arguments, models, engine, own):
    engine.words["trips"].append("flight")
    middleware = ArchRouterMiddleware(**arguments, every_step=True)
    ask(create_agent(own, tools=[bookings], middleware=[middleware]), "my flight bookings")
    assert middleware.stats()["rules"] == {"matched": 2}


def test_no_key_is_in_what_dispatch_tells(split, models, records):
    models["coder"].fails = models["painter"].fails = True
    router = split()
    router.invoke("a bug", thread(1))
    told = f"{records.turns[0].model_dump_json()} {router.stats()} {router!r} {router.model_dump()} {router.routes}"
    assert SECRET not in told + f"{router._table.models} {router.to_json()}"
    assert "Dispatch" not in repr(router)
