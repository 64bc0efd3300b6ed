"""RunnableRouter: the chosen target serves, and everything LangChain does with a Runnable still works."""

from __future__ import annotations

import json
import threading
from operator import itemgetter

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from archroute import Decision, EngineError
from langchain_archroute import Route, RunnableRouter
from tests.engines import FailingEngine
from tests.langchain.fakes import chain_of
from tests.langchain.talk import ANSWERED_BY, REQUESTS, who


@pytest.mark.parametrize(("request_", "model"), list(zip(REQUESTS, ANSWERED_BY, strict=True)))
def test_each_request_goes_to_its_target(router, request_, model):
    assert who(router.invoke(request_)) == model


async def test_the_asynchronous_way_decides_alike(router):
    assert [who(await router.ainvoke(request)) for request in REQUESTS] == ANSWERED_BY


async def test_deciding_leaves_the_event_loop_free(router, engine):
    await router.ainvoke(REQUESTS[0])
    assert engine.threads
    assert threading.get_ident() not in engine.threads


def test_the_target_gets_the_input_and_arguments_as_they_came(router, models):
    messages = [HumanMessage("a python function, then STOP here")]
    answer = router.invoke(messages, stop=["STOP"])
    assert models["coder"].calls == [(messages, {"stop": ["STOP"]})]
    assert answer.content == "coder: a python function, then "


def test_the_decision_is_on_the_answer_once(router):
    decision = router.invoke(REQUESTS[0]).response_metadata["archroute"]
    assert (decision["route"], decision["reason"], decision["model"]) == ("code", "matched", "keywords")
    assert sum(decision["probabilities"].values()) == pytest.approx(1)
    json.dumps(decision)


def test_a_targets_own_message_is_left_as_it_is(arguments):
    kept = AIMessage("the same for all")
    router = RunnableRouter(**arguments | {"default": lambda _: kept})
    assert router.invoke("hm").response_metadata["archroute"]["route"] == "other"
    assert next(router.stream("hm")).response_metadata["archroute"]["route"] == "other"
    assert kept.response_metadata == {}


def test_tokens_pass_once_and_the_decision_is_on_the_first(router, models):
    chunks = list(router.stream(REQUESTS[0]))
    assert "".join(chunk.text for chunk in chunks) == "coder: write a python function"
    assert ["archroute" in chunk.response_metadata for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.response_metadata["archroute"]["route"] == "code"
    assert whole.response_metadata["model_name"] == "coder"
    assert chunks[-1].chunk_position == "last"
    assert len(models["coder"].calls) == 1


async def test_asynchronous_tokens_pass_once(router):
    chunks = [chunk async for chunk in router.astream(REQUESTS[2])]
    assert "".join(chunk.text for chunk in chunks) == "guide: a flight to Lisbon"
    assert [
        chunk.response_metadata["archroute"]["route"] for chunk in chunks if chunk.response_metadata.get("archroute")
    ] == ["trips"]


def test_a_stream_that_is_left_early_ends_the_targets_too(arguments):
    closed = []

    def words(_):
        try:
            yield "one"
            yield "two"
        finally:
            closed.append(True)

    stream = RunnableRouter(**arguments | {"default": RunnableLambda(words)}).stream("hello")
    next(stream)
    stream.close()
    assert closed == [True]


def test_chunks_of_an_input_are_joined_before_deciding(router):
    chunks = list(router.transform(iter(["write a py", "thon function"])))
    assert "".join(chunk.text for chunk in chunks) == "coder: write a python function"


def test_chunks_that_cant_be_joined_are_replaced_by_the_last(router):
    chunks = router.transform(iter([{"input": "a"}, {"input": "a bug"}]))
    with pytest.raises(ValueError, match="dict"):  # a chat model takes no mapping; the decision was made all the same
        list(chunks)
    assert router.decider.router.engine.calls[0][1][0].turns[0].content == "a bug"


async def test_asynchronous_chunks_of_an_input_are_joined(router):
    async def parts():
        for part in ("a fli", "ght"):
            yield part

    assert "".join([chunk.text async for chunk in router.atransform(parts())]) == "guide: a flight"


def test_any_runnable_is_a_target(arguments, engine):
    router = RunnableRouter(
        routes=[
            Route("code", "Programs", target=chain_of("code")),
            Route(
                "images", "Pictures", target={"answer": lambda value: value["question"], "by": lambda value: "images"}
            ),
            Route("trips", "Trips", target=lambda value: value["question"].upper()),
        ],
        default=RunnablePassthrough(),
        model=engine,
        extract="question",
    )
    assert router.invoke({"question": "a bug"}) == "code chain"
    assert router.invoke({"question": "a photo"}) == {"answer": "a photo", "by": "images"}
    assert router.invoke({"question": "a hotel"}) == "A HOTEL"
    assert router.invoke({"question": "hm", "k": 1}) == {"question": "hm", "k": 1}


def test_extract_may_be_a_function(arguments):
    router = RunnableRouter(**arguments | {"extract": itemgetter("q"), "default": chain_of("none")})
    assert router.decider.invoke({"q": "a bug"}).route == "code"


def test_the_window_is_the_users(arguments, engine):
    said = [("human", "a python function"), ("ai", "done"), ("human", "now shorter")]
    assert who(RunnableRouter(**arguments).invoke(said)) == "coder"
    assert who(RunnableRouter(**arguments, history="last_user").invoke(said)) == "generalist"
    assert who(RunnableRouter(**arguments, history=2).invoke(said)) == "coder"


def test_an_unsure_decision_goes_to_the_default(arguments):
    answer = RunnableRouter(**arguments, min_confidence=0.99).invoke(REQUESTS[0])
    assert who(answer) == "generalist"
    assert answer.response_metadata["archroute"]["reason"] == "low_confidence"


def test_actions_of_a_domain_are_routes(engine, models):
    coding = Route(
        "programs", "Programs", target=models["guide"], actions=[Route("code", "Code", target=models["coder"])]
    )
    router = RunnableRouter(routes=[coding], default=models["generalist"], model=engine)
    engine.words = {"code": ["bug"], "programs": ["python"]}
    assert [who(router.invoke(text)) for text in ("a bug", "python", "hm")] == ["coder", "guide", "generalist"]


def test_fallbacks_serve_when_the_target_is_down(arguments, models):
    models["coder"].fails = True
    route = Route("code", "Programs", target=models["coder"], fallbacks=[models["painter"]])
    router = RunnableRouter(**arguments | {"routes": [route]})
    answer = router.invoke(REQUESTS[0])
    assert who(answer) == "painter"
    assert answer.response_metadata["archroute"]["route"] == "code"
    assert "".join(chunk.text for chunk in router.stream(REQUESTS[0])).startswith("painter")


def test_a_targets_own_error_is_the_callers_where_that_is_asked(arguments, strict, models):
    models["coder"].fails = True
    assert who(RunnableRouter(**arguments).invoke(REQUESTS[0])) == "generalist"
    with pytest.raises(ConnectionError, match="coder is down"):
        RunnableRouter(**strict).invoke(REQUESTS[0])


def test_a_failure_while_routing_goes_to_the_default_and_says_why(arguments):
    answer = RunnableRouter(**arguments | {"model": FailingEngine()}).invoke(REQUESTS[0])
    assert who(answer) == "generalist"
    decision = answer.response_metadata["archroute"]
    assert decision["reason"] == "error"
    assert "out of order" in decision["error"]


async def test_a_failure_while_routing_asynchronously_goes_to_the_default_too(arguments):
    router = RunnableRouter(**arguments | {"model": FailingEngine()})
    answers = [await router.ainvoke(REQUESTS[0]), *await router.abatch(REQUESTS[:2])]
    answers.append(await router.ainvoke([AIMessage("no user spoke")]))
    assert [who(answer) for answer in answers] == ["generalist"] * 4
    assert [answer.response_metadata["archroute"]["reason"] for answer in answers] == ["error"] * 4
    assert "".join([chunk.text async for chunk in router.astream(REQUESTS[0])]) == "generalist: write a python function"
    with pytest.raises(EngineError):
        await RunnableRouter(**arguments | {"model": FailingEngine()}, on_error="raise").ainvoke(REQUESTS[0])


def test_an_input_that_cant_be_read_goes_to_the_default(arguments):
    router = RunnableRouter(**arguments | {"default": RunnablePassthrough()})
    assert router.invoke({"nothing": "here"}) == {"nothing": "here"}
    assert router.invoke([AIMessage("no user spoke")])[0].content == "no user spoke"


def test_failures_are_raised_if_wanted(arguments):
    with pytest.raises(EngineError):
        RunnableRouter(**arguments | {"model": FailingEngine()}, on_error="raise").invoke(REQUESTS[0])


def test_a_decision_stands_for_its_routes_name(router):
    decision, same = router.decider.batch(["a bug", "a bug"])
    assert decision == "code"
    assert decision != "trips"
    assert {"code": 1}[decision] == 1
    assert decision == decision.model_copy()
    assert decision != same.model_copy(update={"confidence": 0.0})
    assert isinstance(decision, Decision)
    assert decision.as_dict()["route"] == "code"


def test_the_embedded_model_routes_a_chain(models):
    router = RunnableRouter(
        routes=[
            Route("tax", "Questions on tax law and tax returns", target=models["coder"]),
            Route("travel", "Planning trips, flights and hotels", target=models["guide"]),
        ],
        default=models["generalist"],
        model="embedded",
    )
    assert who(router.invoke("Which flights go to Lisbon on Friday?")) == "guide"
    assert sum(
        router.decider.invoke("Can I deduct my office from my tax return?").probabilities.values()
    ) == pytest.approx(1)


def test_chunks_are_chunks(router):
    assert all(isinstance(chunk, AIMessageChunk) for chunk in router.stream(REQUESTS[0]))
