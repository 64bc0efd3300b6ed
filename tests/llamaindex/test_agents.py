"""The routed LLM in LlamaIndex's own agents, chat engines and settings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool

from archroute import Conversation, EngineError, Policy
from archroute.dispatch import Route, Split, session
from archroute.engines.base import Scores
from llamaindex_archroute import ArchRouterLLM
from tests.engines import KeywordEngine
from tests.llamaindex.recording import Events
from tests.llamaindex.targets import SECRET, WORDS, Answer, Faulty, Target, routed


def clock() -> str:
    """The time of the next flight."""
    return "a flight at noon"


TOOLS = [FunctionTool.from_defaults(clock)]


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent_stays_with_one_target_through_its_tools(streaming: bool, events: Events) -> None:
    agent = FunctionAgent(llm=routed(), tools=TOOLS, streaming=streaming, system_prompt="Be brief.")
    output = await agent.run("What is VAT?")
    assert str(output) == "answer of tax-llm"
    assert [result.tool_name for result in output.tool_calls] == ["clock"]
    assert events.served() == ["tax-llm", "tax-llm"]
    assert len(events.decisions()) == 1


async def test_function_agent_is_routed_anew_each_turn_and_keeps_its_memory_clean(events: Events) -> None:
    agent = FunctionAgent(llm=routed(), tools=TOOLS)
    memory = ChatMemoryBuffer.from_defaults()
    await agent.run("What is VAT?", memory=memory)
    await agent.run("And a flight?", memory=memory)
    assert events.served() == ["tax-llm", "tax-llm", "travel-llm", "travel-llm"]
    assert all("archroute" not in message.additional_kwargs for message in memory.get_all())
    assert SECRET not in repr(memory.get_all())


async def test_function_agent_with_structured_output(events: Events) -> None:
    agent = FunctionAgent(llm=routed(), tools=TOOLS, output_cls=Answer)
    output = await agent.run("What is VAT?")
    assert output.get_pydantic_model(Answer) == Answer(by="tax-llm")
    # LlamaIndex's StructuredLLM sends events of its own under the name of the LLM it wraps.
    assert set(events.served()) == {"tax-llm", "ArchRouterLLM"}
    assert len(events.decisions()) == 1


class _Reasoning(Target):
    """Speaks ReAct's format: an action, then an answer."""

    def _answer(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        if not any((message.content or "").startswith("Observation:") for message in messages):
            return ChatMessage("Thought: ask.\nAction: clock\nAction Input: {}", role=MessageRole.ASSISTANT)
        return ChatMessage(f"Thought: done.\nAnswer: answer of {self.label}", role=MessageRole.ASSISTANT)


def reasoning(**arguments: Any) -> ArchRouterLLM:
    routes = [
        Route("tax", "Tax law", target=_Reasoning("tax-llm")),
        Route("travel", "Trips", target=_Reasoning("travel-llm")),
    ]
    return routed(routes=routes, default=_Reasoning("default-llm"), **arguments)


@pytest.mark.parametrize("streaming", [True, False])
async def test_react_agent_stays_with_one_target_through_its_observations(streaming: bool, events: Events) -> None:
    output = await ReActAgent(llm=reasoning(), tools=TOOLS, streaming=streaming).run("What is VAT?")
    assert str(output) == "answer of tax-llm"
    assert events.served() == ["tax-llm", "tax-llm"]
    assert len(events.decisions()) == 1


async def test_react_agent_stays_with_one_target_when_it_must_ask_again(events: Events) -> None:
    class Rambling(_Reasoning):
        def _answer(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
            asked_again = "parsing the output" in (messages[-1].content or "")
            if not asked_again:
                return ChatMessage("Action: none\nAction Input: a flight", role=MessageRole.ASSISTANT)
            return ChatMessage("Thought: done.\nAnswer: at last", role=MessageRole.ASSISTANT)

    llm = routed(routes=[Route("tax", "Tax law", target=Rambling("tax-llm"))])
    await ReActAgent(llm=llm, tools=TOOLS, streaming=False).run("What is VAT?")
    assert events.served() == ["tax-llm", "tax-llm"]
    assert len(events.decisions()) == 1


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent_goes_on_with_the_fallback_that_began_its_turn(streaming: bool, events: Events) -> None:
    first = Faulty("first")

    def mended() -> str:
        """The time."""
        first.fails = False
        return "noon"

    llm = routed(routes=[Route("tax", "Tax law", target=first, fallbacks=[Target("second")])])
    agent = FunctionAgent(llm=llm, tools=[FunctionTool.from_defaults(mended)], streaming=streaming)
    assert str(await agent.run("What is VAT?")) == "answer of second"
    assert events.served() == ["first", "second", "second"]
    assert len(events.decisions()) == 1


async def test_agent_workflow_and_react_agent_stay_on_their_side_of_a_split(events: Events) -> None:
    def split(kind: type[Target]) -> list[Route[Any]]:
        sides = {name: kind(name) for name in ("old", "new")}
        return [Route("tax", "Tax law", target=Split(sides, {"old": 0.5, "new": 0.5}))]

    for _ in range(5):  # without a session, each turn draws its side
        agent = FunctionAgent(llm=routed(routes=split(Target)), tools=TOOLS)
        await AgentWorkflow(agents=[agent], root_agent=agent.name).run("What is VAT?")
        await ReActAgent(llm=routed(routes=split(_Reasoning)), tools=TOOLS).run("What is VAT?")
    served = events.served()
    assert served[::2] == served[1::2]


async def test_an_agent_stays_with_its_target_though_a_tool_asks_the_same_router(events: Events) -> None:
    llm = routed()

    async def look_up() -> str:
        """Look it up."""
        return str(await llm.achat([ChatMessage("Which flight?")]))

    with session("me"):
        await FunctionAgent(llm=llm, tools=[FunctionTool.from_defaults(async_fn=look_up)]).run("What is VAT?")
    assert events.served() == ["tax-llm", "travel-llm", "tax-llm"]
    assert len(events.decisions()) == 2


async def test_agent_workflow_hands_over_within_a_turn(events: Events) -> None:
    llm = routed()
    first = FunctionAgent(name="first", description="Begins", llm=llm, tools=TOOLS)
    second = FunctionAgent(name="second", description="Goes on", llm=llm, tools=TOOLS)
    output = await AgentWorkflow(agents=[first, second], root_agent="first").run("What is VAT?")
    assert str(output) == "answer of tax-llm"
    assert set(events.served()) == {"tax-llm"}
    assert len(events.decisions()) == 1


async def test_the_loop_is_not_blocked_while_the_engine_works() -> None:
    entered, opened = threading.Event(), threading.Event()

    class Gate(KeywordEngine):
        def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
            entered.set()
            if not opened.wait(10):
                raise EngineError("nobody opened the gate")
            return super().score(routes, conversations)

    asking = asyncio.create_task(routed(model=Gate(WORDS)).achat([ChatMessage("VAT?")]))
    while not entered.is_set():
        await asyncio.sleep(0)
    opened.set()
    assert (await asking).message.content == "answer of tax-llm"


async def test_concurrent_turns_do_not_mix() -> None:
    llm = routed()
    texts = ["VAT?", "a flight?", "hello"] * 10
    answers = await asyncio.gather(*(llm.achat([ChatMessage(text)]) for text in texts))
    assert [answer.message.content for answer in answers] == [
        f"answer of {name}" for name in ("tax-llm", "travel-llm", "default-llm")
    ] * 10


class TestChatEngines:
    def test_simple(self, events: Events) -> None:
        engine = SimpleChatEngine.from_defaults(llm=routed())
        assert str(engine.chat("What is VAT?")) == "answer of tax-llm"
        assert "".join(engine.stream_chat("And a flight?").response_gen) == "answer of travel-llm"
        assert events.served() == ["tax-llm", "travel-llm"]

    async def test_simple_async(self) -> None:
        engine = SimpleChatEngine.from_defaults(llm=routed())
        assert str(await engine.achat("What is VAT?")) == "answer of tax-llm"
        stream = await engine.astream_chat("And a flight?")
        assert "".join([token async for token in stream.async_response_gen()]) == "answer of travel-llm"

    async def test_condense_plus_context(self, events: Events) -> None:
        index = VectorStoreIndex.from_documents(
            [Document(text="VAT is due every quarter.")], embed_model=MockEmbedding(embed_dim=8)
        )
        engine = CondensePlusContextChatEngine.from_defaults(index.as_retriever(), llm=routed())
        assert str(engine.chat("What is VAT?")) == "answer of tax-llm"
        assert str(await engine.achat("And a flight?")) == "answer of travel-llm"


class TestSettings:
    @pytest.fixture(autouse=True)
    def as_found(self) -> Generator[None]:
        found = vars(Settings).copy()
        yield
        vars(Settings).clear()
        vars(Settings).update(found)

    def test_serves_as_the_settings_llm(self, events: Events) -> None:
        Settings.llm = routed()
        engine = SummaryIndex.from_documents([Document(text="flight")]).as_query_engine()
        assert str(engine.query("What is VAT?")) == "answer of tax-llm"
        assert events.served() == ["tax-llm"]

    def test_token_counters_count_once(self) -> None:
        def tokens_with(llm: Any) -> int:
            counter = TokenCountingHandler(tokenizer=str.split)
            Settings.callback_manager = CallbackManager([counter])
            Settings.llm = llm
            SummaryIndex.from_documents([Document(text="VAT")]).as_query_engine().query("What is VAT?")
            Settings.llm.chat([ChatMessage("What is VAT?")])
            return counter.total_llm_token_count

        bare = tokens_with(Target("tax-llm"))
        assert tokens_with(routed()) == bare > 0

    def test_a_targets_own_callbacks_are_kept_where_there_are_no_others(self) -> None:
        own = CallbackManager([TokenCountingHandler(tokenizer=str.split)])
        target = Target("tax-llm", callback_manager=own)
        Settings.llm = routed(routes=[Route("tax", "Tax law", target=target)])
        assert Settings.callback_manager.handlers == []
        Settings.llm.chat([ChatMessage("What is VAT?")])
        assert target.callback_manager is own

    def test_a_targets_own_callbacks_are_kept_when_a_router_is_made_of_it(self) -> None:
        own = CallbackManager([TokenCountingHandler(tokenizer=str.split)])
        target = Target("tax-llm", callback_manager=own)
        Settings.callback_manager = CallbackManager([TokenCountingHandler(tokenizer=str.split)])
        routed(routes=[Route("tax", "Tax law", target=target)])
        assert target.callback_manager is own

    def test_callbacks_given_to_the_router_reach_the_targets(self) -> None:
        counter = TokenCountingHandler(tokenizer=str.split)
        routed(callback_manager=CallbackManager([counter])).chat([ChatMessage("What is VAT?")])
        assert len(counter.llm_token_counts) == 1
