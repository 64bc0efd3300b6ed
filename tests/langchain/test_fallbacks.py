"""Targets that fail, take too long, or can't take a request: who serves in their place."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import product

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.graph import START, MessagesState, StateGraph

from archroute.dispatch import Dispatch, Model
from archroute.errors import TargetTimeoutError
from archroute.serving import ModelInfo
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, Route, RunnableRouter
from tests.langchain.fakes import FakeModel
from tests.langchain.talk import Told, answers, ask, bookings, who
from tests.langchain.ways import WAYS

ORDER = ("coder", "painter", "guide", "generalist")


@pytest.fixture
def fallen(arguments, models, records):
    """A route of three targets before the default."""

    def make(kind=RunnableRouter, dispatch=None, **settings):
        route = Route(
            "code", "Programs", target=models["coder"], fallbacks=[models["painter"], models["guide"]], **settings
        )
        dispatch = Dispatch(observers=[records]) if dispatch is None else dispatch
        return kind(**arguments | {"routes": [route], "dispatch": dispatch})

    return make


def outcomes(decision):
    return [(attempt["target"], attempt["outcome"]) for attempt in decision["attempts"]]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
@pytest.mark.parametrize("failing", list(product([True, False], repeat=3)), ids=str)
def test_the_first_that_answers_serves(fallen, models, records, way, kind, failing):
    for name, fails in zip(ORDER, failing, strict=False):
        models[name].fails = fails
    serves = [*failing, False].index(False)
    text, decision = way(fallen(kind), "a bug")
    assert text == f"{ORDER[serves]}: a bug"
    assert (decision["route"], decision["target"]) == ("code", ORDER[serves])
    expected = [*((name, "failed") for name in ORDER[:serves]), (ORDER[serves], "served")]
    assert outcomes(decision) == expected
    assert {attempt["cause"] for attempt in decision["attempts"]} <= {"ConnectionError", None}
    (record,) = records.turns
    assert (record.target, record.outcome, record.usage.output_tokens) == (ORDER[serves], "served", 3)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("on_failure", "last"), [("default", "generalist"), ("raise", "guide")])
def test_when_all_fail_the_last_error_is_raised(fallen, models, records, way, on_failure, last):
    for model in models.values():
        model.fails = True
    with pytest.raises(ConnectionError, match=f"{last} is down"):
        way(fallen(on_failure=on_failure), "a bug")
    assert (records.turns[0].outcome, records.turns[0].target) == ("failed", None)


@pytest.mark.parametrize("way", [WAYS["stream"], WAYS["astream"]], ids=["stream", "astream"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_no_other_serves_once_a_chunk_is_out(fallen, models, records, way, after):
    models["coder"].breaks_after = after
    if after == 0:
        assert way(fallen(), "a bug")[0] == "painter: a bug"
        return
    with pytest.raises(ConnectionError, match="coder broke off"):
        way(fallen(), "a bug")
    assert models["painter"].calls == []
    assert outcomes(records.turns[0].decision.as_dict()) == [("coder", "failed")]


def in_a_node(model):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "answer")
    return builder.compile()


@pytest.mark.parametrize(
    "graph",
    [
        lambda fallen: in_a_node(fallen(ArchRouterChatModel)),
        lambda fallen: create_agent(fallen(ArchRouterChatModel)),
        lambda fallen: create_agent(FakeModel(label="own"), middleware=[fallen(ArchRouterMiddleware)]),
    ],
    ids=["in a node", "in an agent", "as middleware"],
)
async def test_nor_once_a_graph_has_streamed_a_token(fallen, models, graph):
    models["coder"].breaks_after = 1
    said = []
    graph = graph(fallen)
    with pytest.raises(ConnectionError, match="coder broke off"):
        said += (chunk.text for chunk, _ in graph.stream({"messages": [("human", "a bug")]}, stream_mode="messages"))
    assert said == ["coder:"]
    assert models["painter"].calls == []
    models["coder"].breaks_after = 0
    streamed = graph.stream({"messages": [("human", "a bug")]}, stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in streamed) == "painter: a bug"


def test_a_target_that_was_given_up_says_nothing_more(fallen, models):
    done = threading.Event()
    models["coder"].wait = lambda: (time.sleep(0.5), done.set())
    told = Told()
    chunks = list(fallen(timeout=0.2).stream("a bug", {"callbacks": [told]}))
    done.wait(2)
    time.sleep(0.05)
    assert told.tokens == [chunk.text for chunk in chunks]
    assert told.tokens[0] == "painter:"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_target_that_takes_too_long_is_passed(fallen, models, way):
    models["coder"].wait = lambda: time.sleep(0.6)
    text, decision = way(fallen(timeout=0.25), "a bug")
    assert text == "painter: a bug"
    assert outcomes(decision) == [("coder", "timed_out"), ("painter", "served")]


def test_if_all_take_too_long_that_is_the_error(fallen, models):
    for model in models.values():
        model.wait = lambda: time.sleep(0.2)
    with pytest.raises(TargetTimeoutError, match="'code'"):
        fallen(timeout=0.05, on_failure="raise").invoke("a bug")


def test_a_circuit_opens_is_passed_over_and_closes(fallen, models):
    models["coder"].fails = True
    router = fallen(dispatch=Dispatch(breaker_failures=2, breaker_cooldown=0.6))
    assert [who(router.invoke("a bug")) for _ in range(3)] == ["painter"] * 3
    assert len(models["coder"].calls) == 2
    assert router.stats()["circuits"]["coder"] == "open"
    passed = router.invoke("a bug").response_metadata["archroute"]["attempts"][0]
    assert (passed["outcome"], passed["cause"]) == ("passed_over", "its circuit is open")
    models["coder"].fails = False
    time.sleep(0.65)
    assert who(router.invoke("a bug")) == "coder"
    assert router.stats()["circuits"]["coder"] == "closed"


PICTURES = [
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
    {"type": "image", "source": {"type": "base64", "data": "aGk="}},
    {"type": "media", "mime_type": "image/png", "data": "aGk="},
    {"type": "file", "mime_type": "image/png", "base64": "aGk="},
    {"type": "tool_result", "content": [{"type": "image", "source": {}}]},
    {"image": {"format": "png", "source": {"bytes": b"hi"}}},
]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: str(picture.get("type")))
def test_who_takes_no_pictures_is_passed_over(fallen, models, picture):
    models["coder"].profile = {"image_inputs": False}
    message = HumanMessage([{"type": "text", "text": "a bug"}, picture])
    first = fallen().invoke([message]).response_metadata["archroute"]["attempts"][0]
    assert (first["target"], first["outcome"], first["cause"]) == ("coder", "passed_over", "it takes no images")
    assert who(fallen().invoke("a bug")) == "coder"


def test_who_calls_no_tools_is_passed_over(fallen, models):
    models["coder"].profile = {"tool_calling": False}
    model = fallen(ArchRouterChatModel)
    assert who(model.invoke("a bug")) == "coder"
    called = model.bind_tools([bookings]).invoke("a bug")
    assert who(called) == "painter"
    assert called.response_metadata["archroute"]["attempts"][0]["cause"] == "it calls no tools"
    agent = create_agent(FakeModel(label="own"), tools=[bookings], middleware=[fallen(ArchRouterMiddleware)])
    state = ask(agent, "a bug")
    assert answers(state) == ["painter: a bug"]
    assert outcomes(state["archroute"]) == [("coder", "passed_over"), ("painter", "served")]


def test_what_is_too_long_passes_over(fallen, models):
    models["coder"].profile = {"max_input_tokens": 10}
    said = [SystemMessage("Be kind. " * 10), HumanMessage("a bug")]
    first = fallen().invoke(said).response_metadata["archroute"]["attempts"][0]
    assert first["cause"] == "about 24 tokens are more than its 10"
    assert who(fallen().invoke("a bug")) == "coder"


def test_what_is_declared_stands_before_the_profile(arguments, models):
    models["coder"].profile = {"image_inputs": True}
    target = Model("blind", models["coder"], ModelInfo(images=False))
    router = RunnableRouter(**arguments | {"routes": [Route("code", "Programs", target=target)]})
    attempts = router.invoke([HumanMessage(["a bug", PICTURES[0]])]).response_metadata["archroute"]["attempts"]
    assert [attempt["target"] for attempt in attempts] == ["blind", "generalist"]


def test_every_attempt_is_a_run_of_its_own(fallen, models):
    models["coder"].fails = True
    collector = RunCollectorCallbackHandler()
    fallen().invoke("a bug", {"callbacks": [collector]})
    (run,) = collector.traced_runs
    decide, first, second = run.child_runs
    assert decide.name == "ArchRouter.decide"
    assert [bool(first.error), bool(second.error)] == [True, False]
    assert [child.metadata["archroute_target"] for child in (first, second)] == ["coder", "painter"]
    assert all("route:code" in child.tags for child in (first, second))


async def test_a_call_that_is_cancelled_is_told_as_left(fallen, models, records):
    begun = threading.Event()
    models["coder"].wait = lambda: (begun.set(), time.sleep(0.2))
    for call in (fallen().ainvoke("a bug"), anext(fallen().astream("a bug"))):
        begun.clear()
        task = asyncio.ensure_future(call)
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [record.outcome for record in records.turns] == ["left", "left"]
    assert outcomes(records.turns[0].decision.as_dict()) == [("coder", "left")]
    assert models["painter"].calls == []


def test_a_stream_that_is_left_is_told_as_left(fallen, records):
    stream = fallen().stream("a bug")
    next(stream)
    stream.close()
    assert [(record.outcome, record.target) for record in records.turns] == [("left", "coder")]
