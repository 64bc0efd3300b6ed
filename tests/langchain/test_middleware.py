"""ArchRouterMiddleware in real agents: which model answers, once a turn, and that no turn is lost."""

from __future__ import annotations

import json
import warnings

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import SystemMessage
from langchain_core.tools import tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from archroute import EngineError, SettingError
from langchain_archroute import ArchRouterMiddleware, Route
from tests.engines import FailingEngine
from tests.langchain.fakes import SECRET, FakeModel
from tests.langchain.talk import answers, ask, bookings


@tool
def invoices(count: int) -> str:
    """List the invoices."""
    return f"{count} invoices"


class Verdict(BaseModel):
    """A verdict."""

    text: str


def test_the_fitting_model_answers(arguments, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)])
    assert answers(ask(agent, "a bug")) == ["coder: a bug"]
    assert answers(ask(agent, "a hotel")) == ["guide: a hotel"]
    assert answers(ask(agent, "hm")) == ["generalist: hm"]
    assert own.calls == []


async def test_the_fitting_model_answers_asynchronously(arguments, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)])
    state = await agent.ainvoke({"messages": [("human", "a bug")]})
    assert answers(state) == ["coder: a bug"]
    assert state["archroute"]["route"] == "code"


def test_without_a_default_the_agents_own_model_is_it(arguments, own):
    del arguments["default"]
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)])
    assert answers(ask(agent, "hm")) == ["own: hm"]
    assert answers(ask(agent, "a bug")) == ["coder: a bug"]


def test_a_turn_is_decided_once_through_the_tool_loop(arguments, engine, models, own):
    agent = create_agent(own, tools=[bookings], middleware=[ArchRouterMiddleware(**arguments)])
    state = ask(agent, "my flight bookings")
    assert answers(state) == ["", "guide: 3 bookings"]
    assert len(models["guide"].calls) == 2
    assert [tool["function"]["name"] for tool in models["guide"].calls[0][1]["tools"]] == ["bookings"]
    assert len(engine.calls) == 1


def test_every_step_decides_anew_if_wanted(arguments, engine, own):
    agent = create_agent(own, tools=[bookings], middleware=[ArchRouterMiddleware(**arguments, every_step=True)])
    ask(agent, "my flight bookings")
    assert len(engine.calls) == 2


def test_turns_are_decided_on_the_whole_conversation_in_the_users_window(arguments, engine, own):
    for history, second in (("all", "coder"), ("last_user", "generalist")):
        middleware = ArchRouterMiddleware(**arguments, history=history)
        agent = create_agent(own, middleware=[middleware], checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "1"}}
        ask(agent, "a python function", config)
        assert answers(ask(agent, "now shorter", config))[-1] == f"{second}: now shorter"
    assert len(engine.calls) == 4


def test_the_state_is_plain_and_kept_without_a_warning(arguments, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(agent, "a bug", config)
        state = ask(agent, "a photo", config)
    kept = agent.get_state(config).values["archroute"]
    assert type(kept) is dict
    assert kept == json.loads(json.dumps(kept)) == state["archroute"]
    assert (kept["route"], kept["turn"]) == ("images", state["messages"][-2].id)
    assert SECRET not in json.dumps(kept)


def test_a_failing_engine_leads_to_the_default_and_is_asked_once(arguments, own):
    engine = FailingEngine()
    agent = create_agent(own, tools=[bookings], middleware=[ArchRouterMiddleware(**arguments | {"model": engine})])
    state = ask(agent, "my flight bookings")
    assert answers(state)[-1] == "generalist: 3 bookings"
    assert state["archroute"]["reason"] == "error"
    assert engine.calls == 1


def test_a_failing_engine_ends_the_run_if_wanted(arguments, own):
    middleware = ArchRouterMiddleware(**arguments | {"model": FailingEngine()}, on_error="raise")
    with pytest.raises(EngineError):
        ask(create_agent(own, middleware=[middleware]), "a bug")


def test_a_run_without_a_user_message_goes_to_the_default(arguments, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)])
    assert answers(agent.invoke({"messages": [("ai", "go on")]}))[-1] == "generalist: go on"


def test_a_route_has_its_own_prompt_and_tools(models, engine, own):
    routes = [
        Route("code", "Programs", target=models["coder"], prompt="You write code.", tools=["bookings"]),
        Route("images", "Pictures", target=models["painter"], tools=[invoices]),
        Route("trips", "Trips", target=models["guide"]),
    ]
    middleware = ArchRouterMiddleware(routes=routes, model=engine)
    agent = create_agent(own, tools=[bookings], middleware=[middleware], system_prompt="Be kind.")
    for said in ("a bug", "a photo", "a hotel"):
        ask(agent, said)

    def told(name):
        messages, kwargs = models[name].calls[0]
        return messages[0], [tool["function"]["name"] for tool in kwargs.get("tools", ())]

    assert told("coder") == (SystemMessage("You write code."), ["bookings"])
    assert told("painter") == (SystemMessage("Be kind."), ["invoices"])
    assert told("guide") == (SystemMessage("Be kind."), ["bookings"])
    assert answers(ask(agent, "invoices of photos"))[-1] == "painter: 3 invoices"


def test_structured_output_is_the_targets_own(arguments, models, own):
    models["coder"].profile = {"structured_output": True}
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)], response_format=Verdict)
    assert ask(agent, "a photo")["structured_response"] == Verdict(text="a photo")
    assert models["painter"].calls[0][1]["tools"][0]["function"]["name"] == "Verdict"
    ask(agent, "a bug")
    assert models["coder"].calls[0][1]["response_format"]["type"] == "json_schema"


def test_a_given_strategy_is_kept(arguments, models, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)], response_format=ProviderStrategy(Verdict))
    ask(agent, "a photo")
    assert "response_format" in models["painter"].calls[0][1]


def test_the_decision_is_in_the_trace_and_the_target_marked(arguments, own):
    collector = RunCollectorCallbackHandler()
    ask(create_agent(own, middleware=[ArchRouterMiddleware(**arguments)]), "a bug", {"callbacks": [collector]})
    runs = {}

    def walk(run):
        runs[run.name] = run
        for child in run.child_runs:
            walk(child)

    walk(collector.traced_runs[0])
    assert runs["ArchRouter.decide"].outputs["output"].route == "code"
    assert runs["FakeModel"].metadata["archroute_route"] == "code"
    assert "route:code" in runs["FakeModel"].tags


def test_streamed_tokens_come_once_with_their_route(arguments, own):
    agent = create_agent(own, middleware=[ArchRouterMiddleware(**arguments)])
    streamed = list(agent.stream({"messages": [("human", "a bug")]}, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in streamed) == "coder: a bug"
    assert {metadata["archroute_route"] for _, metadata in streamed} == {"code"}


def test_a_target_that_takes_no_tools_is_refused_at_once(models, engine):
    with pytest.raises(SettingError, match="route 'code'"):
        ArchRouterMiddleware(routes=[Route("code", "Programs", target=str.upper)], model=engine)


def test_one_middleware_may_serve_several_agents_at_once(arguments, models):
    middleware = ArchRouterMiddleware(**arguments)
    agents = [create_agent(FakeModel(label=str(number)), middleware=[middleware]) for number in range(2)]
    assert [answers(ask(agent, "a bug")) for agent in agents * 2] == [["coder: a bug"]] * 4
