"""Every method of the routed LLM goes to the chosen target's own, once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms import MockLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate

from archroute import ArchRouteError, EngineError, PolicyError, SettingError
from archroute.dispatch import Route, Split
from llamaindex_archroute import ArchRouterLLM
from tests.engines import FailingEngine, KeywordEngine
from tests.llamaindex.methods import METHODS, TOOLS, VAT, last
from tests.llamaindex.recording import Events, Spans
from tests.llamaindex.targets import WORDS, Target, routed


def test_the_table_has_every_public_method_that_asks_a_model() -> None:
    asking = {
        name
        for name in dir(LLM) + dir(Target)
        if name.startswith(("chat", "achat", "stream", "astream", "complete", "acomplete", "predict", "apredict"))
        or name.endswith("structured_predict")
    }
    assert {name for name in asking if callable(getattr(Target, name, None))} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_goes_to_the_chosen_target_once(method: str, events: Events) -> None:
    result = await last(METHODS[method](routed()))
    assert result is not None
    assert events.served() == ["tax-llm"]
    assert [decision.route for decision in events.decisions()] == ["tax"]


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_answers_as_the_target_does(method: str) -> None:
    call = METHODS[method]
    through, bare = await last(call(routed())), await last(call(Target("tax-llm")))
    assert str(through) == str(bare)
    assert type(through).__name__ == type(bare).__name__


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_survives_a_failing_engine(method: str, events: Events) -> None:
    await last(METHODS[method](routed(model=FailingEngine())))
    assert events.served() == ["default-llm"]
    assert [decision.reason for decision in events.decisions()] == ["error"]


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_raises_the_engines_error_if_told_to(method: str, events: Events) -> None:
    with pytest.raises(EngineError, match="out of order"):
        await last(METHODS[method](routed(model=FailingEngine(), on_error="raise")))
    assert events.served() == []


@pytest.mark.parametrize(
    ("method", "inner"),
    [(method, method) for method in METHODS if "with_tools" not in method and not method.endswith("_and_call")]
    + [
        ("chat_with_tools", "chat"),
        ("achat_with_tools", "achat"),
        ("stream_chat_with_tools", "stream_chat"),
        ("astream_chat_with_tools", "astream_chat"),
    ],
)
async def test_the_targets_span_is_inside_the_routers(method: str, inner: str, spans: Spans) -> None:
    await last(METHODS[method](routed()))
    assert spans.parent_of(f"Target.{inner}") == f"ArchRouterLLM.{method}"
    assert spans.parent_of(f"ArchRouterLLM.{method}") is None


@pytest.mark.parametrize("method", ["predict_and_call", "apredict_and_call"])
async def test_calling_tools_is_a_chat_with_tools_that_is_routed(method: str, spans: Spans) -> None:
    await last(METHODS[method](routed()))
    inner = "achat" if method.startswith("a") else "chat"
    assert spans.parent_of(f"Target.{inner}") == f"ArchRouterLLM.{inner}_with_tools"
    assert spans.parent_of(f"ArchRouterLLM.{inner}_with_tools") == f"ArchRouterLLM.{method}"


class TestDecision:
    def test_is_noted_on_the_response_and_not_on_the_message(self) -> None:
        response = routed().chat(VAT)
        assert response.additional_kwargs["archroute"]["route"] == "tax"
        assert "archroute" not in response.message.additional_kwargs

    def test_is_noted_on_every_chunk(self) -> None:
        def in_words(*_: Any, **__: Any) -> Generator[ChatMessage]:
            yield ChatMessage("one", role="assistant")
            yield ChatMessage("one two", role="assistant")

        target = Target("tax-llm")
        target.response_generator = in_words
        llm = routed(routes=[Route("tax", "Tax law", target=target)])
        chunks = list(llm.stream_chat(VAT))
        assert [chunk.message.content for chunk in chunks] == ["one", "one two"]
        assert [chunk.additional_kwargs["archroute"]["route"] for chunk in chunks] == ["tax", "tax"]

    def test_leaves_the_targets_own_response_alone(self) -> None:
        kept = ChatResponse(message=ChatMessage("hi", role="assistant"), additional_kwargs={"tokens": 1})

        class Cached(MockLLM):
            def chat(self, *_: Any, **__: Any) -> ChatResponse:
                return kept

        response = routed(routes=[Route("tax", "Tax law", target=Cached())]).chat(VAT)
        assert response.additional_kwargs["tokens"] == 1
        assert "archroute" in response.additional_kwargs
        assert kept.additional_kwargs == {"tokens": 1}

    def test_reads_user_and_assistant_text_of_the_users_window(self) -> None:
        engine = KeywordEngine(WORDS)
        talk = [*VAT, ChatMessage("A tax.", role=MessageRole.ASSISTANT), ChatMessage("And a flight?")]
        routed(model=engine, history=1).chat(talk)
        routed(model=engine).chat(talk)
        windowed, whole = (calls[1][0] for calls in engine.calls)
        assert [turn.content for turn in windowed.turns] == ["And a flight?"]
        assert [turn.content for turn in whole.turns] == ["What is VAT?", "A tax.", "And a flight?"]

    def test_goes_by_the_question_of_a_prompt_and_not_by_what_was_retrieved(self, events: Events) -> None:
        prompt = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")
        routed().predict(prompt, context_str="flight flight flight", query_str="VAT?")
        routed().predict(prompt.partial_format(query_str="VAT?"), context_str="flight flight flight")
        assert events.served() == ["tax-llm", "tax-llm"]

    def test_reads_chat_prompts(self, events: Events) -> None:
        prompt = ChatPromptTemplate(message_templates=[ChatMessage("flights"), ChatMessage("Of {topic}")])
        routed().predict(prompt, topic="VAT")
        assert events.served() == ["tax-llm"]

    def test_low_confidence_goes_to_the_default(self, events: Events) -> None:
        routed(min_confidence=0.99).chat(VAT)
        assert events.served() == ["default-llm"]
        assert events.decisions()[0].reason == "low_confidence"

    @pytest.mark.parametrize("messages", [[], [ChatMessage("Be brief.", role=MessageRole.SYSTEM)]])
    def test_without_a_user_message_the_default_answers(self, messages: list[ChatMessage], events: Events) -> None:
        routed().chat(messages)
        assert events.served() == ["default-llm"]

    def test_a_domain_serves_what_fits_none_of_its_actions(self, events: Events) -> None:
        flights = Route("flights", "Booking flights", target=Target("flights-llm"))
        travel = Route("travel", "Anything about trips", target=Target("travel-llm"), actions=[flights])
        llm = routed(routes=[travel], model=KeywordEngine({"flights": ["flight"], "travel": ["trip"]}))
        llm.complete("a flight")
        llm.complete("a trip")
        assert events.served() == ["flights-llm", "travel-llm"]

    def test_the_embedded_model_decides(self, events: Events) -> None:
        llm = routed(model="embedded")
        llm.complete("How do I file my tax return?")
        llm.complete("Which flights go to Lisbon on Friday?")
        assert events.served() == ["tax-llm", "travel-llm"]


class TestFailingTarget:
    class Broken(Target):
        def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            raise ConnectionError("the provider is down")

        async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            raise ConnectionError("the provider is down")

        def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
            yield ChatResponse(message=ChatMessage("half", role="assistant"))
            raise ConnectionError("the provider is down")

    @pytest.fixture
    def alone(self) -> ArchRouterLLM:
        """A router whose route lets no other target serve."""
        return routed(routes=[Route("tax", "Tax law", target=self.Broken("broken-llm"), on_failure="raise")])

    async def test_its_own_error_reaches_the_caller_if_none_may_step_in(
        self, alone: ArchRouterLLM, events: Events
    ) -> None:
        llm = alone
        with pytest.raises(ConnectionError, match="the provider is down"):
            llm.chat(VAT)
        with pytest.raises(ConnectionError, match="the provider is down"):
            await llm.achat(VAT)
        assert [decision.route for decision in events.decisions()] == ["tax", "tax"]

    def test_what_it_streamed_before_is_kept_and_no_other_goes_on(self) -> None:
        stream = routed(routes=[Route("tax", "Tax law", target=self.Broken("broken-llm"))]).stream_chat(VAT)
        assert next(stream).message.content == "half"
        with pytest.raises(ConnectionError):
            next(stream)

    def test_the_router_goes_on(self, alone: ArchRouterLLM) -> None:
        with pytest.raises(ConnectionError):
            alone.chat(VAT)
        assert alone.chat([ChatMessage("hello")]).message.content == "answer of default-llm"


class TestClosing:
    async def test_an_async_stream_closes_the_targets(self) -> None:
        closed = []

        class Endless(Target):
            async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
                async def stream() -> Any:
                    try:
                        while True:
                            yield ChatResponse(message=ChatMessage("more", role="assistant"))
                    finally:
                        closed.append(True)

                return stream()

        stream = await routed(routes=[Route("tax", "Tax law", target=Endless("endless"))]).astream_chat(VAT)
        await anext(stream)
        await stream.aclose()
        assert closed == [True]

    def test_a_stream_closes_the_targets(self) -> None:
        closed: list[bool] = []
        kept: list[Any] = []  # else the target's stream would be closed by being forgotten

        def words() -> Any:
            try:
                while True:
                    yield ChatResponse(message=ChatMessage("more", role="assistant"))
            finally:
                closed.append(True)

        class Endless(Target):
            def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
                kept.append(words())
                return kept[0]

        stream = routed(routes=[Route("tax", "Tax law", target=Endless("endless"))]).stream_chat(VAT)
        next(stream)
        stream.close()
        assert closed == [True]


class TestTools:
    class Own(Target):
        """Reads calls in its own way."""

        def get_tool_calls_from_response(self, response: ChatResponse, *_: Any, **__: Any) -> list[ToolSelection]:
            return [ToolSelection(tool_id="0", tool_name=self.label, tool_kwargs=response.additional_kwargs)]

    def test_calls_are_read_by_the_target_that_made_them(self) -> None:
        llm = routed(routes=[Route(name, name, target=self.Own(f"{name}-llm")) for name in ("travel", "tax")])
        (call,) = llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, "VAT?"))
        assert call.tool_name == "tax-llm"
        assert call.tool_kwargs == {}  # the response as the target gave it, without the note

    def test_calls_in_a_response_without_a_note_are_read_too(self) -> None:
        response = Target("elsewhere").chat_with_tools(TOOLS, "VAT?")
        assert [call.tool_name for call in routed().get_tool_calls_from_response(response)] == ["clock"]

    def test_no_calls_is_the_targets_own_matter(self) -> None:
        llm = routed()
        assert llm.get_tool_calls_from_response(llm.chat(VAT), error_on_no_tool_call=False) == []

    async def test_prepared_calls_go_to_the_target_they_were_prepared_for(self, events: Events) -> None:
        engine = KeywordEngine(WORDS)
        llm = routed(model=engine)
        prepared = llm._prepare_chat_with_tools(TOOLS, "VAT?", tool_required=True)
        llm.chat(**prepared)
        await llm.achat(**prepared)
        assert events.served() == ["tax-llm", "tax-llm"]
        assert len(engine.calls) == 1

    async def test_tool_options_reach_the_target(self) -> None:
        seen: list[dict[str, Any]] = []

        class Watching(Target):
            def _prepare_chat_with_tools(self, tools: Any, **kwargs: Any) -> dict[str, Any]:
                seen.append(kwargs)
                return super()._prepare_chat_with_tools(tools, **kwargs)

        llm = routed(routes=[Route("tax", "Tax law", target=Watching("tax-llm"))])
        llm.chat_with_tools(TOOLS, "VAT?", None, True, allow_parallel_tool_calls=True, tool_choice="clock")
        assert seen[0]["verbose"] is True
        assert seen[0]["allow_parallel_tool_calls"] is True
        assert seen[0]["tool_choice"] == "clock"

    def test_a_router_may_be_the_target_of_a_router(self, events: Events) -> None:
        inner = routed(routes=[Route(name, name, target=self.Own(f"{name}-llm")) for name in ("travel", "tax")])
        outer = routed(routes=[Route("money", "Money", target=inner)], model=KeywordEngine({"money": ["vat"]}))
        response = outer.chat_with_tools(TOOLS, "VAT?")
        assert events.served() == ["tax-llm"]
        assert response.additional_kwargs["archroute"]["route"] == "money"
        assert response.additional_kwargs["archroute"]["inner"]["route"] == "tax"
        assert [call.tool_name for call in outer.get_tool_calls_from_response(response)] == ["tax-llm"]


class TestArguments:
    def test_a_target_must_be_an_llm(self) -> None:
        with pytest.raises(SettingError, match="route 'tax' is a str"):
            routed(routes=[Route("tax", "Tax law", target="sk-not-to-be-seen")])
        with pytest.raises(SettingError, match="default is a NoneType"):
            routed(default=None)
        split = Split({"new": "sk-not-to-be-seen"}, {"new": 1.0})
        with pytest.raises(SettingError, match="the target 'new' of route 'tax' is a str"):
            routed(routes=[Route("tax", "Tax law", target=split)])
        with pytest.raises(SettingError, match="the shadow of route 'tax' is a str"):
            routed(routes=[Route("tax", "Tax law", target=Target("a"), shadows=["sk-not-to-be-seen"])])

    @pytest.mark.parametrize(
        "arguments",
        [
            {"min_confidence": 7},
            {"history": 0},
            {"on_error": "ignore"},
            {"model": 3},
            {"min_margin": -1},
            {"session": 3},
        ],
    )
    def test_impossible_values_are_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(SettingError):
            routed(**arguments)

    def test_policies_must_be_valid_together(self) -> None:
        route = Route("tax", "Tax law", target=Target("a"))
        with pytest.raises(PolicyError, match="more than once: tax"):
            routed(routes=[route, route])
        with pytest.raises(PolicyError, match="no policies"):
            routed(routes=[])

    def test_positional_routes_and_default(self) -> None:
        target = Target("a")
        llm = ArchRouterLLM([Route("tax", "Tax law", target=target)], target, model=KeywordEngine(WORDS))
        assert llm.complete("VAT").additional_kwargs["archroute"]["route"] == "tax"


class TestMetadata:
    def test_promises_what_all_targets_can_do(self) -> None:
        small = Target("small", context_window=1000, num_output=64)
        metadata = routed(default=small).metadata
        assert (metadata.context_window, metadata.num_output) == (1000, 64)
        assert metadata.is_chat_model
        assert metadata.is_function_calling_model

    def test_promises_no_tools_or_chat_if_one_target_has_none(self) -> None:
        metadata = routed(default=MockLLM()).metadata
        assert not metadata.is_function_calling_model
        assert not metadata.is_chat_model
        assert metadata.num_output == 256  # MockLLM's −1 is no limit

    def test_a_target_without_tools_says_so_by_its_route(self) -> None:
        llm = routed(routes=[Route("tax", "Tax law", target=MockLLM(), on_failure="raise")])
        with pytest.raises(ArchRouteError, match="'tax', a MockLLM, can't call tools"):
            llm.chat_with_tools(TOOLS, "VAT?")
