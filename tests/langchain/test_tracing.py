"""What a trace, the callbacks and the events show of a routed call; with LangChain's own tracers, in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import LangChainTracer
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith import Client

from langchain_archroute import EVENT, ArchRouterChatModel, RunnableRouter
from tests.engines import FailingEngine
from tests.langchain.fakes import SECRET

REQUEST = "write a python function"


def tree(run: Any) -> tuple[Any, ...]:
    return (run.run_type, run.name, *(tree(child) for child in run.child_runs))


def traced(call) -> list[Any]:
    collector = RunCollectorCallbackHandler()
    call({"callbacks": [collector]})
    return collector.traced_runs


CALLS = {
    "invoke": lambda router, config: router.invoke(REQUEST, config),
    "stream": lambda router, config: list(router.stream(REQUEST, config)),
    "batch": lambda router, config: router.batch([REQUEST], config),
    "batch_as_completed": lambda router, config: list(router.batch_as_completed([REQUEST], config)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
def test_decision_and_target_are_children_of_the_router(arguments, kind, call):
    (run,) = traced(lambda config: call(kind(**arguments), config))
    assert tree(run) == ("chain", kind.__name__, ("llm", "ArchRouter.decide"), ("llm", "FakeModel"))


@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel])
async def test_they_are_asynchronously_too(arguments, kind):
    collector = RunCollectorCallbackHandler()
    router = kind(**arguments)
    await router.ainvoke(REQUEST, {"callbacks": [collector]})
    await router.abatch([REQUEST], {"callbacks": [collector]})
    async for _ in router.astream(REQUEST, {"callbacks": [collector]}):
        pass
    expected = ("chain", kind.__name__, ("llm", "ArchRouter.decide"), ("llm", "FakeModel"))
    assert [tree(run) for run in collector.traced_runs] == [expected] * 3


def test_the_decisions_run_has_the_route_its_probabilities_and_its_time(router):
    (run,) = traced(lambda config: router.invoke(REQUEST, config))
    decide = run.child_runs[0]
    decision = decide.outputs["output"]
    assert decision.route == "code"
    assert decision.probabilities["code"] > decision.probabilities["trips"]
    assert decision.latency_ms > 0
    assert decide.metadata["ls_provider"] == "archroute"
    assert decide.metadata["ls_model_name"] == "keywords"


def test_the_target_is_tagged_and_marked_with_its_route(router):
    (run,) = traced(lambda config: router.invoke(REQUEST, config | {"tags": ["mine"], "metadata": {"user": 7}}))
    decide, target = run.child_runs
    assert {"route:code", "mine"} <= set(target.tags)
    assert target.metadata.items() >= {"archroute_route": "code", "archroute_reason": "matched", "user": 7}.items()
    assert "archroute_route" not in decide.metadata
    assert target.metadata["ls_provider"] != "archroute"


def test_what_runs_inside_a_target_is_marked_too(arguments, models):
    chain = RunnableLambda(str.upper) | models["painter"] | StrOutputParser()
    (run,) = traced(lambda config: RunnableRouter(**arguments | {"default": chain}).invoke("hm", config))
    inner = run.child_runs[1].child_runs
    assert [child.metadata["archroute_route"] for child in inner] == ["other"] * 3


def test_generate_traces_the_target_below_the_chat_model(arguments):
    model = ArchRouterChatModel(**arguments)
    (run,) = traced(lambda config: model.generate_prompt([model._convert_input(REQUEST)], **config))
    below = ("chain", "ArchRouterChatModel", ("llm", "ArchRouter.decide"), ("llm", "FakeModel"))
    assert tree(run) == ("llm", "ArchRouterChatModel", below)
    target = run.child_runs[0].child_runs[1]
    assert target.metadata["ls_provider"] == "fakemodel"
    assert target.metadata.get("ls_model_name") != "keywords"


def test_a_failed_decision_says_why_in_the_trace(arguments):
    (run,) = traced(lambda config: RunnableRouter(**arguments | {"model": FailingEngine()}).invoke(REQUEST, config))
    assert "out of order" in run.child_runs[0].outputs["output"].error
    assert run.error is None


def test_a_raised_failure_and_a_targets_own_are_errors_of_their_runs(strict, models):
    def invoke(router):
        def call(config):
            with pytest.raises(Exception, match=r"out of order|down"):
                router.invoke(REQUEST, config)

        return call

    (run,) = traced(invoke(RunnableRouter(**strict | {"model": FailingEngine()}, on_error="raise")))
    assert [bool(child.error) for child in run.child_runs] == [True]
    models["coder"].fails = True
    (run,) = traced(invoke(RunnableRouter(**strict)))
    assert [bool(child.error) for child in run.child_runs] == [False, True]


def test_langsmith_gets_the_same_tree_and_no_key(arguments):
    class Collecting(LangChainTracer):
        """LangSmith's tracer up to the wire."""

        def _persist_run_single(self, run):
            posted.append(run)

        def _update_run_single(self, run):
            ended[run.id] = run

    posted, ended = [], {}
    tracer = Collecting(client=Client(api_key="x", auto_batch_tracing=False))
    ArchRouterChatModel(**arguments).invoke(REQUEST, {"callbacks": [tracer]})
    tracer.wait_for_futures()
    assert [run.name for run in posted] == ["ArchRouterChatModel", "ArchRouter.decide", "FakeModel"]
    assert [run.parent_run_id for run in posted] == [None, posted[0].id, posted[0].id]
    told = json.dumps([{"outputs": run.outputs, "extra": run.extra} for run in ended.values()], default=dumps)
    assert '"code"' in told.replace("\\", "")
    router_and_decision = json.dumps([run.serialized for run in posted[:2]], default=repr)
    assert SECRET not in router_and_decision
    assert SECRET not in told


async def test_every_way_sends_one_event_of_the_decision(router):
    async def events(call):
        told = RunnableLambda(call).astream_events(REQUEST, version="v2")
        return [(event["name"], event["data"]["route"]) async for event in told if event["event"] == "on_custom_event"]

    async def astream(value):
        return [chunk async for chunk in router.astream(value)]

    async def abatch(value):
        return await router.abatch([value])

    for call in (router.ainvoke, astream, abatch, router.decider.ainvoke, lambda value: router.invoke(value)):
        assert await events(call) == [(EVENT, "code")]


async def test_events_show_the_tokens_of_the_target_once(router):
    events = [event async for event in router.astream_events(REQUEST, version="v2")]
    tokens = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == "coder: write a python function"
    routes = {
        event["metadata"].get("archroute_route") for event in events if event["event"].startswith("on_chat_model")
    }
    assert routes == {"code"}
    assert events[-1]["data"]["output"].response_metadata["archroute"]["route"] == "code"
