"""ArchRouterMiddleware among fallbacks, retries and interrupts."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, dynamic_prompt, wrap_model_call
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_archroute import ArchRouterMiddleware, Route
from tests.langchain.talk import answers, ask, bookings


@pytest.mark.parametrize("outer", [True, False], ids=["fallback outside", "fallback inside"])
async def test_a_fallback_middlewares_model_is_let_through(strict, models, own, outer):
    models["coder"].fails = True
    both = [ModelFallbackMiddleware(models["painter"]), ArchRouterMiddleware(**strict)]
    agent = create_agent(own, middleware=both if outer else both[::-1])
    assert answers(ask(agent, "a bug")) == ["painter: a bug"]
    assert answers(await agent.ainvoke({"messages": [("human", "a bug")]})) == ["painter: a bug"]
    assert len(models["coder"].calls) == 2


def test_the_agents_own_model_may_be_the_fallback(strict, models, own):
    models["coder"].fails = True
    agent = create_agent(own, middleware=[ModelFallbackMiddleware(own), ArchRouterMiddleware(**strict)])
    assert answers(ask(agent, "a bug")) == ["own: a bug"]


@pytest.mark.parametrize("outer", [True, False], ids=["retry outside", "retry inside"])
@pytest.mark.parametrize("prompted", [True, False], ids=["another middleware between", "none between"])
def test_a_retry_goes_to_the_same_model(strict, models, own, outer, prompted):
    failures = [True]

    def once():
        if failures:
            failures.pop()
            raise ConnectionError("not yet")

    @dynamic_prompt
    def prompt(request):
        return "Be kind."

    models["coder"].wait = once
    both = [
        ModelRetryMiddleware(max_retries=2, initial_delay=0),
        *[prompt] * prompted,
        ArchRouterMiddleware(**strict),
    ]
    agent = create_agent(own, middleware=both if outer else both[::-1])
    assert answers(ask(agent, "a bug")) == ["coder: a bug"]
    assert len(models["coder"].calls) == 2


def test_an_attempt_with_another_request_goes_to_the_same_model(strict, models, own):
    @wrap_model_call
    def shorter(request, handler):
        try:
            return handler(request)
        except ConnectionError:
            models["coder"].fails = False
            return handler(request.override(messages=request.messages[-1:]))

    models["coder"].fails = True
    agent = create_agent(own, middleware=[shorter, ArchRouterMiddleware(**strict)])
    state = agent.invoke({"messages": [("human", "hello"), ("ai", "hi"), ("human", "a bug")]})
    assert answers(state)[-1] == "coder: a bug"
    assert [len(messages) for messages, _ in models["coder"].calls] == [3, 1]


def test_retry_and_fallback_work_together(strict, models, own):
    models["coder"].fails = True
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0, on_failure="error")
    agent = create_agent(
        own, middleware=[ModelFallbackMiddleware(models["guide"]), retry, ArchRouterMiddleware(**strict)]
    )
    assert answers(ask(agent, "a bug")) == ["guide: a bug"]
    assert len(models["coder"].calls) == 2


async def test_fallbacks_of_a_route_are_tried_in_order(arguments, models, own):
    models["coder"].fails = models["painter"].fails = True
    route = Route(
        "code", "Programs", target=models["coder"], fallbacks=[models["painter"], models["guide"]], on_failure="raise"
    )
    agent = create_agent(own, tools=[bookings], middleware=[ArchRouterMiddleware(**arguments | {"routes": [route]})])
    assert answers(ask(agent, "a bug in my bookings"))[-1] == "guide: 3 bookings"
    state = await agent.ainvoke({"messages": [("human", "a bug")]})
    assert answers(state) == ["guide: a bug"]
    models["guide"].fails = True
    with pytest.raises(ConnectionError, match="guide is down"):
        ask(agent, "a bug")


async def test_an_interrupt_is_no_failure_that_a_fallback_serves(arguments, models, own):
    allowed = []
    models["coder"].wait = lambda: allowed.append(interrupt("may I?"))
    route = Route("code", "Programs", target=models["coder"], fallbacks=[models["painter"]])
    middleware = ArchRouterMiddleware(**arguments | {"routes": [route]})
    agent = create_agent(own, middleware=[middleware], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert ask(agent, "a bug", config)["__interrupt__"][0].value == "may I?"
    assert answers(agent.invoke(Command(resume="yes"), config)) == ["coder: a bug"]
    config = {"configurable": {"thread_id": "2"}}
    state = await agent.ainvoke({"messages": [("human", "a bug")]}, config)
    assert state["__interrupt__"][0].value == "may I?"
    assert answers(await agent.ainvoke(Command(resume="yes"), config)) == ["coder: a bug"]
    assert allowed == ["yes", "yes"]
    assert models["painter"].calls == []
    assert middleware.stats()["outcomes"] == {"left": 2, "served": 2}
    assert middleware.stats()["circuits"] == {"coder": "closed"}
