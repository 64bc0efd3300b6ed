"""Batches of routers: decided in one call, then as any Runnable's."""

from __future__ import annotations

import asyncio
import threading

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough

from archroute import EngineError
from langchain_archroute import RunnableRouter
from tests.langchain.fakes import chain_of
from tests.langchain.talk import ANSWERED_BY, REQUESTS, who


def test_a_batch_is_decided_in_one_call_and_keeps_its_order(router, engine):
    answers = router.batch(REQUESTS)
    assert [who(answer) for answer in answers] == ANSWERED_BY
    assert [len(conversations) for _, conversations in engine.calls] == [4]
    assert [answer.response_metadata["archroute"]["route"] for answer in answers] == [
        "code",
        "images",
        "trips",
        "other",
    ]


async def test_an_asynchronous_batch_is_decided_in_one_call(router, engine):
    assert [who(answer) for answer in await router.abatch(REQUESTS)] == ANSWERED_BY
    assert [len(conversations) for _, conversations in engine.calls] == [4]
    assert threading.get_ident() not in engine.threads


def test_answers_as_completed_are_decided_in_one_call(router, engine):
    answers = dict(router.batch_as_completed(REQUESTS))
    assert [who(answers[number]) for number in range(4)] == ANSWERED_BY
    assert [len(conversations) for _, conversations in engine.calls] == [4]


async def test_asynchronous_answers_as_completed_are_decided_in_one_call(router, engine):
    answers = {number: answer async for number, answer in router.abatch_as_completed(REQUESTS)}
    assert [who(answers[number]) for number in range(4)] == ANSWERED_BY
    assert [len(conversations) for _, conversations in engine.calls] == [4]


def test_decisions_alone_are_packed_too(router, engine):
    decisions = router.decider.batch([*REQUESTS, {"nothing": "here"}, [AIMessage("no user spoke")]])
    assert [decision.route for decision in decisions] == ["code", "images", "trips", "other", "other", "other"]
    assert [decision.reason for decision in decisions[-2:]] == ["error", "error"]
    assert [len(conversations) for _, conversations in engine.calls] == [4]


def test_targets_of_a_batch_run_side_by_side(arguments, models):
    # Each waits for the other: one after the other, they would wait for ever.
    both = threading.Barrier(2, timeout=20)
    models["coder"].wait = models["painter"].wait = both.wait
    assert [who(answer) for answer in RunnableRouter(**arguments).batch(REQUESTS[:2])] == ANSWERED_BY[:2]


def test_max_concurrency_bounds_the_targets(arguments, models):
    running, most, lock = [0], [0], threading.Lock()
    seen = threading.Event()

    def count():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        seen.wait(0.02)
        with lock:
            running[0] -= 1

    for model in models.values():
        model.wait = count
    RunnableRouter(**arguments).batch(REQUESTS * 2, {"max_concurrency": 1})
    assert most == [1]


def test_an_exception_is_its_items_own(strict, models):
    models["painter"].fails = True
    router = RunnableRouter(**strict)
    answers = router.batch(REQUESTS, return_exceptions=True)
    assert isinstance(answers[1], ConnectionError)
    assert [who(answers[number]) for number in (0, 2, 3)] == ["coder", "guide", "generalist"]
    with pytest.raises(ConnectionError):
        router.batch(REQUESTS)


async def test_an_unreadable_item_fails_alone(arguments):
    router = RunnableRouter(**arguments, on_error="raise")
    inputs = ["a bug", {"nothing": "here"}, "a photo"]
    for answers in (router.batch(inputs, return_exceptions=True), await router.abatch(inputs, return_exceptions=True)):
        assert [who(answers[0]), who(answers[2])] == ["coder", "painter"]
        assert isinstance(answers[1], Exception)
        assert "no conversation" in str(answers[1])


async def test_an_input_the_engine_fails_on_fails_alone(arguments, engine):
    class Picky(type(engine)):
        def score(self, routes, conversations):
            if any("cursed" in conversation.turns[-1].content for conversation in conversations):
                raise EngineError("a cursed word")
            return super().score(routes, conversations)

    router = RunnableRouter(**arguments | {"model": Picky(engine.words)})
    inputs = ["a bug", "a cursed photo", "a photo"]
    for answers in (router.batch(inputs), await router.abatch(inputs)):
        assert [who(answer) for answer in answers] == ["coder", "generalist", "painter"]
        assert "a cursed word" in answers[1].response_metadata["archroute"]["error"]


async def test_an_empty_batch_is_asynchronously_empty(router):
    assert await router.abatch([]) == []


def test_an_empty_batch_is_empty(router, engine):
    assert router.batch([]) == []
    assert engine.calls == []


def test_configs_of_a_batch_go_each_to_its_item(arguments):
    told = RunnableLambda(lambda value, config: config["metadata"]["who"])
    router = RunnableRouter(**arguments | {"default": told})
    assert router.batch(["hm", "hm"], [{"metadata": {"who": name}} for name in "ab"]) == ["a", "b"]


def test_mapped_inputs_are_one_batch(router, engine):
    assert [who(answer) for answer in router.map().invoke(REQUESTS)] == ANSWERED_BY
    assert len(engine.calls) == 1


async def test_many_calls_at_once_do_not_mix(router):
    answers = await asyncio.gather(*(router.ainvoke(request) for request in REQUESTS * 5))
    assert [who(answer) for answer in answers] == ANSWERED_BY * 5


@pytest.mark.parametrize(
    "wrap",
    [
        lambda router: router.with_retry(),
        lambda router: router.with_fallbacks([chain_of("none")]),
        lambda router: router.bind(stop=["x"]),
        lambda router: router.with_config(tags=["mine"]),
        lambda router: RunnablePassthrough() | router,
        lambda router: router.configurable_fields(min_confidence=ConfigurableField(id="sure")),
    ],
    ids=["with_retry", "with_fallbacks", "bind", "with_config", "sequence", "configurable_fields"],
)
def test_a_batch_through_what_langchain_wraps_around_it_is_one_call(router, engine, wrap):
    assert [who(answer) for answer in wrap(router).batch(REQUESTS)] == ANSWERED_BY
    assert [len(conversations) for _, conversations in engine.calls] == [4]
