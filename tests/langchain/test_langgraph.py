"""Routers in LangGraph: nodes, edges, streamed messages, checkpoints."""

from __future__ import annotations

import json
import warnings
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages

from langchain_archroute import ArchRouterChatModel, RunnableRouter
from tests.engines import FailingEngine


def graph_of(model, checkpointer=None):
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=checkpointer)


def agraph_of(model):
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile()


@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
def test_a_streamed_token_comes_once_and_with_its_route(arguments, kind):
    graph = graph_of(kind(**arguments))
    streamed = list(graph.stream({"messages": [("human", "a flight to Lisbon")]}, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in streamed) == "guide: a flight to Lisbon"
    assert {metadata["archroute_route"] for _, metadata in streamed} == {"trips"}


@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
async def test_a_token_streamed_asynchronously_comes_once(arguments, kind):
    graph = agraph_of(kind(**arguments))
    said = {"messages": [("human", "a flight to Lisbon")]}
    streamed = [chunk async for chunk, _ in graph.astream(said, stream_mode="messages")]
    assert "".join(chunk.text for chunk in streamed) == "guide: a flight to Lisbon"


def test_a_chat_model_that_is_streamed_in_a_node_tells_tokens_once(arguments):
    model = ArchRouterChatModel(**arguments)

    def answer(state):
        chunks = list(model.stream(state["messages"]))
        return {"messages": [sum(chunks[1:], chunks[0])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    streamed = list(builder.compile().stream({"messages": [("human", "a bug")]}, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in streamed) == "coder: a bug"


def test_the_third_protocol_of_a_graph_tells_tokens_once(arguments):
    graph = graph_of(ArchRouterChatModel(**arguments))
    run = graph.stream_events({"messages": [("human", "a bug")]}, version="v3")
    assert ["".join(message.text) for message in run.messages] == ["coder: a bug"]


def test_turns_with_a_checkpointer_are_routed_on_the_whole_conversation(arguments):
    graph = graph_of(RunnableRouter(**arguments), InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [("human", "a python function")]}, config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = graph.invoke({"messages": [("human", "now shorter")]}, config)
    assert [message.text.split(":")[0] for message in state["messages"] if message.type == "ai"] == ["coder", "coder"]
    kept = graph.get_state(config).values["messages"][-1].response_metadata["archroute"]
    assert kept["route"] == json.loads(json.dumps(kept))["route"] == "code"


class Desk(TypedDict):
    messages: Annotated[list[Any], add_messages]


def desk(decider):
    builder = StateGraph(Desk)
    for name in ("code", "images", "trips", "other"):
        builder.add_node(f"{name}_desk", lambda state, name=name: {"messages": [("ai", f"{name} desk")]})
        builder.add_edge(f"{name}_desk", END)
    nodes = {name: f"{name}_desk" for name in ("code", "images", "trips", "other")}
    builder.add_conditional_edges(START, decider, nodes)
    return builder.compile()


async def test_the_decider_is_a_conditional_edge(router, engine):
    graph = desk(router.decider)
    for said, to in (("a bug", "code"), ("a photo", "images"), ("a hotel", "trips"), ("hm", "other")):
        assert graph.invoke({"messages": [("human", said)]})["messages"][-1].text == f"{to} desk"
        state = await graph.ainvoke({"messages": [("human", said)]})
        assert state["messages"][-1].text == f"{to} desk"
    assert len(engine.calls) == 8


def test_nodes_named_as_the_routes_need_no_map(router):
    builder = StateGraph(Desk)
    for name in ("code", "images", "trips", "other"):
        builder.add_node(name, lambda state, name=name: {"messages": [("ai", name)]})
    builder.add_conditional_edges(START, router.decider.route_name)
    graph = builder.compile()
    for said, to in (("a bug", "code"), ("hm", "other")):
        assert graph.invoke({"messages": [("human", said)]})["messages"][-1].text == to


def test_an_edge_leads_to_the_default_when_deciding_fails(arguments):
    router = RunnableRouter(**arguments | {"model": FailingEngine()})
    assert desk(router.decider).invoke({"messages": [("human", "a bug")]})["messages"][-1].text == "other desk"


def test_a_decision_in_a_state_is_plain(router):
    class State(Desk):
        decision: dict[str, Any]

    builder = StateGraph(State)
    builder.add_node("decide", lambda state: {"decision": router.decider.invoke(state).as_dict()})
    builder.add_edge(START, "decide")
    graph = builder.compile(checkpointer=InMemorySaver())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = graph.invoke({"messages": [("human", "a bug")]}, {"configurable": {"thread_id": "1"}})
    assert state["decision"]["route"] == "code"
