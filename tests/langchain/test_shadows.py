"""Shadows: asked beside, recorded, and neither seen nor heard."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from archroute.dispatch import Dispatch, Model
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, Route, RunnableRouter
from tests.langchain.fakes import FakeModel
from tests.langchain.talk import Told, answers, bookings
from tests.langchain.ways import WAYS


@pytest.fixture
def shadow():
    return FakeModel(label="shadow")


@pytest.fixture
def shadowed(arguments, models, shadow, records):
    def make(kind=RunnableRouter, **settings):
        route = Route("code", "Programs", target=models["coder"], shadows=[Model("shadow", shadow)])
        return kind(**arguments | {"routes": [route], "dispatch": Dispatch(observers=[records], **settings)})

    return make


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


async def auntil(condition):
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("way", [WAYS[name] for name in ("invoke", "stream", "batch")])
@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
def test_a_shadow_is_in_no_trace_and_no_stream_and_is_recorded(shadowed, shadow, records, kind, way):
    collector, told = RunCollectorCallbackHandler(), Told()
    router = shadowed(kind)
    with get_usage_metadata_callback() as usage:
        assert way(router, "a bug", {"callbacks": [collector, told]})[0] == "coder: a bug"
        until(lambda: records.shadows)
    assert set(usage.usage_metadata) == {"coder"}
    assert [len(run.child_runs) for run in collector.traced_runs] == [2]
    assert told.count["llm_end"] == 1
    assert "shadow:" not in told.tokens
    (record,) = records.shadows
    assert (record.target, record.outcome, record.turn) == ("shadow", "served", records.turns[0].id)
    assert record.usage.output_tokens == 3
    assert router.stats()["shadows"]["shadow"]["served"] == 1


async def test_nor_asynchronously(shadowed, records):
    router, collector = shadowed(), RunCollectorCallbackHandler()
    await router.ainvoke("a bug", {"callbacks": [collector]})
    async for _ in router.astream("a bug", {"callbacks": [collector]}):
        pass
    events = [event async for event in router.astream_events("a bug", version="v2")]
    await auntil(lambda: len(records.shadows) == 3)
    assert [len(run.child_runs) for run in collector.traced_runs] == [2, 2]
    assert sum(event["event"] == "on_chat_model_start" for event in events) == 1
    assert "shadow" not in str([event["data"] for event in events if event["event"] == "on_chat_model_stream"])


@pytest.mark.parametrize("kind", [ArchRouterChatModel, ArchRouterMiddleware])
async def test_an_agents_stream_has_no_shadow_which_gets_the_tools_too(shadowed, shadow, own, records, kind):
    router = shadowed(kind)
    agent = (
        create_agent(router, tools=[bookings], system_prompt="Be kind.")
        if kind is ArchRouterChatModel
        else create_agent(own, tools=[bookings], middleware=[router], system_prompt="Be kind.")
    )
    said = {"messages": [("human", "a bug")]}
    streamed = [chunk.text for chunk, _ in agent.stream(said, stream_mode="messages")]
    streamed += [chunk.text async for chunk, _ in agent.astream(said, stream_mode="messages")]
    await auntil(lambda: len(records.shadows) == 2)
    assert "".join(streamed) == "coder: a bug" * 2
    assert [record.outcome for record in records.shadows] == ["served"] * 2
    messages, arguments = shadow.calls[0]
    assert [message.type for message in messages] == ["system", "human"]
    assert [tool["function"]["name"] for tool in arguments["tools"]] == ["bookings"]
    assert answers(agent.invoke(said)) == ["coder: a bug"]


@pytest.mark.parametrize("name", WAYS)
def test_a_shadow_that_is_slow_or_fails_changes_nothing(shadowed, shadow, records, name):
    gate, waits = (
        threading.Event(),
        name in ("ainvoke", "astream", "abatch"),
    )  # there the event loop's end waits for threads
    shadow.wait, shadow.fails = lambda: gate.wait(0.1 if waits else 10), True
    begun = time.monotonic()
    assert WAYS[name](shadowed(), "a bug")[0] == "coder: a bug"
    assert time.monotonic() - begun < 5
    if not waits:
        gate.set()
        until(lambda: records.shadows)
        assert (records.shadows[0].outcome, records.shadows[0].cause) == ("failed", "ConnectionError")
