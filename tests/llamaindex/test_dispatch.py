"""Who serves a turn: splits, fallbacks, timeouts, circuits and shadows, through every method of the routed LLM."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CitationBlock,
    CompletionResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index_instrumentation.dispatcher import instrument_tags

from archroute import PolicyError, SettingError
from archroute.dispatch import Dispatch, Model, Route, Split, session
from archroute.errors import TargetTimeoutError
from archroute.serving import ModelInfo
from llamaindex_archroute.table import LLMTable
from tests.engines import KeywordEngine
from tests.llamaindex.methods import METHODS, TOOLS, VAT, last
from tests.llamaindex.recording import Events
from tests.llamaindex.targets import WORDS, Faulty, Target, routed
from tests.records import Records

BASIC = ["chat", "achat", "stream_chat", "astream_chat"]
WITH_TOOLS = [name for name in METHODS if "with_tools" in name]


def tax(*targets: Any, **settings: Any) -> list[Route[Any]]:
    first, *fallbacks = targets
    return [Route("tax", "Tax law and returns", target=first, fallbacks=fallbacks, **settings)]


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def dispatch(records: Records) -> Dispatch:
    return Dispatch(observers=[records], breaker_failures=3)


@pytest.mark.parametrize("method", METHODS)
class TestFallbacks:
    @pytest.mark.parametrize("failing", range(4))
    async def test_every_position_of_failure(
        self, method: str, failing: int, dispatch: Dispatch, records: Records
    ) -> None:
        names = ["first", "second", "default"]
        one, two, default = (Faulty(name, fails=number < failing) for number, name in enumerate(names))
        llm = routed(routes=tax(one, two), default=default, dispatch=dispatch)
        if failing == 3:
            with pytest.raises(ConnectionError, match="default is down") as raised:
                await last(METHODS[method](llm))
            assert "first: ConnectionError, second: ConnectionError" in raised.value.__notes__[0]
        else:
            await last(METHODS[method](llm))
        served = [(name, "served") for name in names[failing : failing + 1]]
        assert records.attempts() == [(name, "failed") for name in names[:failing]] + served
        assert records.turns[-1].outcome == ("served" if served else "failed")

    async def test_a_route_may_raise(self, method: str) -> None:
        llm = routed(routes=tax(Faulty("first"), Faulty("second"), on_failure="raise"))
        with pytest.raises(ConnectionError, match="second is down"):
            await last(METHODS[method](llm))

    async def test_the_split_the_answer_and_the_decision_agree(self, method: str, records: Records) -> None:
        split = Split({"old": Target("a"), "new": Target("b")}, {"old": 0.0, "new": 1.0})
        answer = await last(METHODS[method](routed(routes=tax(split), dispatch=Dispatch(observers=[records]))))
        assert records.attempts() == [("new", "served")]
        if isinstance(answer, ChatResponse | CompletionResponse):
            note = answer.additional_kwargs["archroute"]
            assert (note["target"], [attempt["target"] for attempt in note["attempts"]]) == ("new", ["new"])


class TestStreams:
    @staticmethod
    def streaming(label: str, words: Callable[[], Generator[ChatMessage]]) -> Target:
        target = Target(label)
        target.response_generator = lambda *_, **__: words()
        return target

    @pytest.mark.parametrize("method", ["stream_chat", "stream_chat_with_tools", "stream"])
    async def test_one_that_fails_at_its_first_piece_fails_over(self, method: str, records: Records) -> None:
        def words() -> Generator[ChatMessage]:
            raise ConnectionError("down")
            yield

        dispatch = Dispatch(observers=[records])
        llm = routed(routes=tax(self.streaming("first", words), Target("second")), dispatch=dispatch)
        await last(METHODS[method](llm))
        assert records.attempts() == [("first", "failed"), ("second", "served")]

    def test_one_that_breaks_off_never_does(self, dispatch: Dispatch, records: Records) -> None:
        def words() -> Generator[ChatMessage]:
            yield ChatMessage("half", role="assistant")
            raise ConnectionError("down")

        second = Faulty("second", fails=False)
        stream = routed(routes=tax(self.streaming("first", words), second), dispatch=dispatch).stream_chat(VAT)
        assert next(stream).message.content == "half"
        with pytest.raises(ConnectionError):
            next(stream)
        assert records.attempts() == [("first", "failed")]
        assert second.calls == 0

    def test_an_empty_one_is_an_answer(self, dispatch: Dispatch, records: Records) -> None:
        llm = routed(routes=tax(self.streaming("first", lambda: iter(())), Target("second")), dispatch=dispatch)  # type: ignore[arg-type, return-value]
        assert list(llm.stream_chat(VAT)) == []
        assert records.attempts() == [("first", "served")]

    def test_one_that_is_left_says_so(self, dispatch: Dispatch, records: Records) -> None:
        routed(dispatch=dispatch).stream_chat(VAT).close()
        assert records.turns[0].outcome == "left"

    async def test_one_that_is_cancelled_says_so(self, dispatch: Dispatch, records: Records) -> None:
        slow = Faulty("slow", fails=False, delay=60)
        task = asyncio.create_task(routed(routes=tax(slow, Target("second")), dispatch=dispatch).achat(VAT))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert records.attempts() == [("slow", "left")]
        assert records.turns[0].outcome == "left"


class TestTime:
    @pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "chat_with_tools"])
    async def test_the_next_target_serves_after_the_timeout(
        self, method: str, dispatch: Dispatch, records: Records
    ) -> None:
        slow = Faulty("slow", fails=False, delay=1)
        await last(METHODS[method](routed(routes=tax(slow, Target("quick"), timeout=0.05), dispatch=dispatch)))
        assert records.attempts() == [("slow", "timed_out"), ("quick", "served")]

    async def test_an_error_of_its_own_is_raised_where_none_is_left(self) -> None:
        llm = routed(routes=tax(Faulty("slow", delay=1), timeout=0.05, on_failure="raise"))
        with pytest.raises(TargetTimeoutError, match="'tax': no answer within 0.05 s"):
            llm.chat(VAT)


@pytest.mark.parametrize("method", BASIC)
async def test_an_open_circuit_is_passed_over(method: str, dispatch: Dispatch, records: Records) -> None:
    broken = Faulty("broken")
    llm = routed(routes=tax(broken, Target("second")), dispatch=dispatch)
    for _ in range(4):
        await last(METHODS[method](llm))
    assert broken.calls == 3
    assert records.turns[-1].decision.attempts[0].cause == "its circuit is open"
    assert llm.stats()["circuits"]["broken"] == "open"


class TestFeasibility:
    PICTURE = ImageBlock(url="https://example.org/a.png")

    @pytest.mark.parametrize("method", WITH_TOOLS)
    async def test_tools_go_to_a_target_that_calls_them(
        self, method: str, dispatch: Dispatch, records: Records
    ) -> None:
        await last(METHODS[method](routed(routes=tax(MockLLM(), Target("able")), dispatch=dispatch)))
        assert [(attempt.target, attempt.cause) for attempt in records.turns[0].decision.attempts] == [
            ("MockLLM", "it calls no tools"),
            ("able", None),
        ]

    def test_a_long_request_goes_to_a_target_with_room(self, dispatch: Dispatch, records: Records) -> None:
        small, large = Target("small", context_window=100), Target("large", context_window=100_000)
        llm = routed(routes=tax(small, large), dispatch=dispatch)
        llm.chat(VAT)
        llm.chat([ChatMessage("word " * 200, role=MessageRole.SYSTEM), ChatMessage("VAT?")])
        assert [turn.target for turn in records.turns] == ["small", "large"]
        assert "more than its 100" in str(records.turns[1].decision.attempts[0].cause)

    def test_what_is_retrieved_for_a_prompt_counts(self, records: Records) -> None:
        from llama_index.core.prompts import PromptTemplate

        routes = tax(Target("small", context_window=100), Target("large", context_window=100_000))
        llm = routed(routes=routes, dispatch=Dispatch(observers=[records]))
        llm.predict(PromptTemplate("{context_str} {query_str}"), context_str="word " * 200, query_str="VAT?")
        assert records.turns[0].target == "large"

    @pytest.mark.parametrize(
        "blocks",
        [
            [PICTURE, TextBlock(text="VAT?")],
            [
                CitationBlock(cited_content=PICTURE, source="a", title="b", additional_location_info={}),
                TextBlock(text="VAT?"),
            ],
        ],
        ids=["picture", "cited"],
    )
    def test_pictures_go_to_a_target_that_takes_them(
        self, blocks: list[Any], dispatch: Dispatch, records: Records
    ) -> None:
        blind = Model("blind", Target("a"), ModelInfo(images=False))
        routed(routes=tax(blind, Target("seeing")), dispatch=dispatch).chat([ChatMessage(role="user", blocks=blocks)])
        assert records.attempts() == [("blind", "passed_over"), ("seeing", "served")]
        assert records.turns[0].decision.attempts[0].cause == "it takes no images"


class TestSplits:
    @staticmethod
    def split(**shares: float) -> Split[Any]:
        return Split({name: Target(name) for name in shares}, shares)

    def test_a_session_stays_on_its_side(self, events: Events) -> None:
        llm = routed(routes=tax(self.split(old=0.5, new=0.5)))
        sides: dict[str, set[str]] = {}
        for number in range(60):
            with session(f"user-{number % 20}"):
                target = llm.chat(VAT).additional_kwargs["archroute"]["target"]
            sides.setdefault(f"user-{number % 20}", set()).add(target)
        assert {len(found) for found in sides.values()} == {1}
        assert len(set.union(*sides.values())) == 2

    def test_shares_change_while_turns_are_served(self, events: Events) -> None:
        llm = routed(routes=tax(self.split(old=1.0, new=0.0)))
        llm.chat(VAT)
        llm.change_shares("tax", {"old": 0.0, "new": 1.0})
        llm.chat(VAT)
        assert events.served() == ["old", "new"]
        with pytest.raises(PolicyError, match="no split"):
            routed().change_shares("tax", {"old": 1.0})

    def test_the_other_side_stands_in(self, dispatch: Dispatch, records: Records) -> None:
        split = Split({"old": Faulty("old"), "new": Target("new")}, {"old": 0.999999, "new": 0.000001})
        routed(routes=tax(split), dispatch=dispatch).chat(VAT)
        assert records.attempts() == [("old", "failed"), ("new", "served")]

    def test_arms_without_a_share_count_in_the_metadata(self) -> None:
        split = Split({"old": Target("old"), "new": Target("new", context_window=1000)}, {"old": 1.0, "new": 0.0})
        assert routed(routes=tax(split)).metadata.context_window == 1000
        shadow = tax(Target("old"), shadows=[Target("new", context_window=1000)])
        assert routed(routes=shadow).metadata.context_window == 4000


class TestSessions:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("me", "me"),
            (lambda: "me", "me"),
            (lambda: None, "around"),
            (None, "around"),
            (ChatMemoryBuffer.from_defaults(chat_store_key="mine"), "mine"),
            (Memory.from_defaults(session_id="mine"), "mine"),
        ],
    )
    async def test_where_the_key_comes_from(self, source: Any, expected: str, records: Records) -> None:
        llm = routed(session=source, dispatch=Dispatch(observers=[records]))
        with session("around"):
            llm.chat(VAT)
            await llm.achat(VAT)
        assert [turn.session for turn in records.turns] == [expected] * 2

    @pytest.mark.parametrize("tag", ["session_id", "thread_id"])
    def test_the_instrumentations_tags_tell_it(self, tag: str, dispatch: Dispatch, records: Records) -> None:
        with session("around"), instrument_tags({tag: "tagged"}):
            routed(dispatch=dispatch).chat(VAT)
        assert records.turns[0].session == "tagged"

    def test_a_memory_that_shares_its_key_with_all_others_is_refused(self) -> None:
        with pytest.raises(SettingError, match="no key of its own"):
            routed(session=ChatMemoryBuffer.from_defaults())

    def test_a_function_that_fails_costs_the_session_alone(self, dispatch: Dispatch, records: Records) -> None:
        def broken() -> str:
            raise LookupError("no request is being served")

        routed(session=broken, dispatch=dispatch).chat(VAT)
        assert (records.turns[0].target, records.turns[0].session) == ("tax-llm", None)

    def test_a_session_stays_where_another_route_is_not_worth_the_switch(self, events: Events) -> None:
        llm = routed(dispatch=Dispatch(switch_cost=0.5), session="me")
        both = "VAT, VAT and a flight, a flight, a flight"
        for text in ("VAT", both, "a flight"):
            llm.chat([ChatMessage(text)])
        assert events.served() == ["tax-llm", "tax-llm", "travel-llm"]
        assert [decision.reason for decision in events.decisions()] == ["matched", "sticky", "matched"]


class TestShadows:
    @staticmethod
    def wait_for(records: Records, count: int) -> None:
        """Threads of shadows end when they do."""
        for _ in range(500):
            if len(records.shadows) >= count:
                return
            threading.Event().wait(0.01)

    @pytest.mark.parametrize("method", METHODS)
    async def test_is_asked_beside_and_unseen(
        self, method: str, dispatch: Dispatch, records: Records, events: Events
    ) -> None:
        counter = TokenCountingHandler(tokenizer=str.split)
        shadow = Faulty("shadow", fails=False)
        llm = routed(
            routes=tax(Target("tax-llm"), shadows=[shadow]),
            dispatch=dispatch,
            callback_manager=CallbackManager([counter]),
        )
        answer = await last(METHODS[method](llm))
        if not records.shadows:
            await asyncio.to_thread(self.wait_for, records, 1)
        assert (records.shadows[0].outcome, records.shadows[0].cause) == ("served", None)
        assert shadow.calls == 1
        assert "shadow" not in str(answer)
        assert len(counter.llm_token_counts) == 1
        told = [event for event in events.events if "archroute_shadow" not in event.tags]
        assert not any(getattr(event, "model_dict", {}).get("model_name") == "shadow" for event in told)

    async def test_its_failure_and_its_slowness_are_its_own(self, dispatch: Dispatch, records: Records) -> None:
        llm = routed(
            routes=tax(Target("tax-llm"), shadows=[Faulty("bad"), Faulty("slow", delay=0.3)]), dispatch=dispatch
        )
        assert (await llm.achat(VAT)).message.content == "answer of tax-llm"
        assert llm.chat(VAT).message.content == "answer of tax-llm"
        await asyncio.sleep(0.5)
        assert {(shadow.target, shadow.outcome) for shadow in records.shadows} == {
            ("bad", "failed"),
            ("slow", "failed"),
        }

    def test_one_that_serves_elsewhere_is_not_counted_either(self, dispatch: Dispatch, records: Records) -> None:
        counter = TokenCountingHandler(tokenizer=str.split)
        travel = Target("travel-llm")
        routes = [*tax(Target("tax-llm"), shadows=[travel]), Route("travel", "Trips", target=travel)]
        llm = routed(routes=routes, dispatch=dispatch, callback_manager=CallbackManager([counter]))
        llm.chat(VAT)
        self.wait_for(records, 1)
        assert len(counter.llm_token_counts) == 1
        llm.chat([ChatMessage("flight")])
        assert len(counter.llm_token_counts) == 2

    def test_its_own_callbacks_are_kept(self, dispatch: Dispatch, records: Records) -> None:
        counter = TokenCountingHandler(tokenizer=str.split)
        shadow = Target("shadow", callback_manager=CallbackManager([counter]))
        routed(routes=tax(Target("tax-llm"), shadows=[shadow]), dispatch=dispatch).chat(VAT)
        self.wait_for(records, 1)
        assert len(counter.llm_token_counts) == 1


class TestTools:
    def test_each_target_reads_a_history_of_its_own(self) -> None:
        class Appending(Target):
            """Appends to the history that it is given, as OpenAI's integration does."""

            def chat_with_tools(self, tools: Any, user_msg: Any, chat_history: Any, **kwargs: Any) -> ChatResponse:
                chat_history.append(ChatMessage(user_msg))
                seen.append(len(chat_history))
                if self.label == "first":
                    raise ConnectionError("down")
                return ChatResponse(message=ChatMessage("", role="assistant"))

        seen: list[int] = []
        history = [ChatMessage("Hello")]
        routed(routes=tax(Appending("first"), Appending("second"))).chat_with_tools(TOOLS, "VAT?", history)
        assert seen == [2, 2]
        assert len(history) == 1

    def test_a_tool_that_fails_is_not_called_again_for_the_next_target(self, dispatch: Dispatch) -> None:
        from llama_index.core.tools import FunctionTool

        called = Counter[str]()

        def pay() -> None:
            """Pay the tax."""
            called["pay"] += 1
            raise RuntimeError("no money")

        llm = routed(routes=tax(Target("first"), Target("second")), dispatch=dispatch)
        with pytest.raises(ValueError, match="no money"):
            llm.predict_and_call([FunctionTool.from_defaults(pay)], "VAT?", error_on_tool_error=True)
        assert called["pay"] == 1
        assert dispatch.stats()["targets"]["first"]["served"] == 1

    async def test_a_prepared_call_has_its_target_alone(self, dispatch: Dispatch, records: Records) -> None:
        first = Faulty("first", fails=False)
        llm = routed(routes=tax(MockLLM(), first, Target("second"), shadows=[Target("shadow")]), dispatch=dispatch)
        prepared = llm._prepare_chat_with_tools(TOOLS, "VAT?")
        await llm.achat(**prepared)
        assert records.attempts() == [("first", "served")]
        first.fails = True
        with pytest.raises(ConnectionError):
            llm.chat(**prepared)
        assert records.attempts() == [("first", "failed")]
        assert records.shadows == []


class TestDescribing:
    class Mute(MockLLM):
        @property
        def metadata(self) -> Any:
            raise ConnectionError("the server that knows is down")

    @pytest.mark.parametrize(
        ("llm", "name", "info"),
        [
            (Target("gpt-5"), "gpt-5", ModelInfo(tools=True, context=4000)),
            (Target("unknown", context_window=-1), "Target", ModelInfo(tools=True)),
            (Target("", context_window=3900), "Target", ModelInfo(tools=True)),  # the default, which nobody said
            (MockLLM(), "MockLLM", ModelInfo(tools=False)),
            (Mute(), "Mute", ModelInfo()),
        ],
    )
    def test_by_its_metadata(self, llm: Any, name: str, info: ModelInfo) -> None:
        model = LLMTable(tax(llm), Target("default")).models[0]
        assert (model.name, model.info) == (name, info)

    def test_what_is_declared_goes_first(self) -> None:
        given = Model("mine", Target("gpt-5"), ModelInfo(context=7, images=True))
        assert LLMTable(tax(given), Target("default")).models[0].info == ModelInfo(images=True, tools=True, context=7)

    def test_metadata_that_take_too_long_are_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Slow(MockLLM):
            @property
            def metadata(self) -> Any:
                opened.wait(10)

        opened = threading.Event()
        monkeypatch.setattr("llamaindex_archroute.table._METADATA_WITHIN", 0.01)
        assert LLMTable(tax(Slow()), Target("default")).models[0].name == "Slow"
        opened.set()

    @pytest.mark.parametrize(
        ("raw", "kwargs"),
        [
            ({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}, {}),
            ({"usage": {"input_tokens": 3, "output_tokens": 2}}, {}),
            ({"usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 2}}, {}),
            ({"usage": None}, {"prompt_tokens": 3, "completion_tokens": 2}),
            (None, {"prompt_tokens": 3, "completion_tokens": 2}),
            (["what is this"], {"prompt_tokens": 3, "completion_tokens": 2}),
        ],
    )
    def test_tokens_are_read_in_all_forms(self, raw: Any, kwargs: dict[str, Any]) -> None:
        response = ChatResponse(message=ChatMessage(""), raw=raw, additional_kwargs=kwargs)
        usage = LLMTable(tax(Target("a")), Target("b")).usage_of(response)
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (3, 2)

    @pytest.mark.parametrize("answer", ["text", None, ChatResponse(message=ChatMessage("")), 3])
    def test_where_none_are_told_none_are_known(self, answer: Any) -> None:
        assert LLMTable(tax(Target("a")), Target("b")).usage_of(answer) is None


def test_two_routers_may_share_a_dispatch(dispatch: Dispatch) -> None:
    for engine in (KeywordEngine(WORDS), KeywordEngine(WORDS)):
        routed(model=engine, dispatch=dispatch).chat(VAT)
    assert dispatch.stats()["turns"] == 2
