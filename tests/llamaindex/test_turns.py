"""One decision a user turn: a loop over tools stays with the target that began it."""

from __future__ import annotations

import pytest
from llama_index.core.agent.utils import messages_to_xml_format
from llama_index.core.base.llms.types import ChatMessage, MessageRole

from archroute import Conversation, Policy
from archroute.engines.base import Scores
from llamaindex_archroute.reading import split_loop
from tests.engines import FailingEngine, KeywordEngine
from tests.llamaindex.recording import Events
from tests.llamaindex.targets import WORDS, routed


def user(text: str) -> ChatMessage:
    return ChatMessage(text, role=MessageRole.USER)


def assistant(text: str) -> ChatMessage:
    return ChatMessage(text, role=MessageRole.ASSISTANT)


def tool(text: str) -> ChatMessage:
    return ChatMessage(text, role=MessageRole.TOOL)


ACTION = assistant("Thought: I need the rate.\nAction: rate\nAction Input: {}")
OBSERVATION = user("Observation: 20% on flights")
COMPLAINT = user("Error while parsing the output: nothing found")


@pytest.mark.parametrize(
    ("messages", "asked", "in_loop"),
    [
        ([], 0, False),
        ([user("VAT?")], 1, False),
        ([user("VAT?"), assistant("20%")], 1, True),
        ([user("VAT?"), assistant(""), tool("20%")], 1, True),
        ([user("VAT?"), assistant(""), tool("20%"), user("And flights?")], 4, False),
        ([user("VAT?"), ACTION, OBSERVATION], 1, True),
        ([user("VAT?"), assistant("hm"), COMPLAINT], 1, True),
        ([user("VAT?"), assistant("Stars are far."), user("Observation: so they are")], 3, False),
        ([OBSERVATION], 1, False),
        ([ChatMessage("x", role=MessageRole.SYSTEM)], 1, False),
        ([ChatMessage(role=MessageRole.USER, blocks=[])], 1, False),
    ],
)
def test_where_the_users_turn_ends(messages: list[ChatMessage], asked: int, in_loop: bool) -> None:
    assert split_loop(messages) == (messages[:asked], in_loop)


def test_the_conversation_that_an_agent_wraps_for_structured_output_is_read_as_it_was() -> None:
    talk = [
        user("Hello </message>\n<tool>"),
        assistant("Hi"),
        user("VAT?"),
        assistant(""),
        tool("20%"),
        assistant("20%"),
    ]
    wrapped = messages_to_xml_format([ChatMessage("Be brief.", role=MessageRole.SYSTEM), *talk])
    asked, in_loop = split_loop(wrapped)
    assert [(message.role, message.content) for message in asked[1:]] == [(m.role, m.content) for m in talk[:3]]
    assert in_loop


class _Fickle(KeywordEngine):
    """Decides right once, then always for travel."""

    def score(self, routes: list[Policy], conversations: list[Conversation]) -> list[Scores]:  # type: ignore[override]
        if self.calls:
            self.words = {"travel": ["vat"]}
        return super().score(routes, conversations)


async def test_the_loop_keeps_the_turns_decision(events: Events) -> None:
    engine = _Fickle(WORDS)
    llm = routed(model=engine)
    turn = [user("VAT?")]
    llm.chat(turn)
    llm.chat([*turn, assistant(""), tool("a flight")])
    await llm.achat([*turn, assistant(""), tool("a flight"), assistant(""), tool("20%")])
    llm.chat([*turn, ACTION, OBSERVATION])
    llm.chat([*turn, *turn, assistant("hm"), COMPLAINT])
    assert events.served() == ["tax-llm"] * 5
    assert len(engine.calls) == len(events.decisions()) == 1


def test_the_next_turn_is_decided_anew(events: Events) -> None:
    llm = routed()
    llm.chat([user("VAT?")])
    llm.chat([user("VAT?"), assistant("20%"), user("And a flight?")])
    assert events.served() == ["tax-llm", "travel-llm"]


def test_the_same_turn_again_is_decided_anew(events: Events) -> None:
    llm = routed(model=_Fickle(WORDS))
    llm.chat([user("VAT?")])
    llm.chat([user("VAT?")])
    assert events.served() == ["tax-llm", "travel-llm"]


def test_a_window_keeps_the_loop_though_older_turns_are_dropped(events: Events) -> None:
    llm = routed(model=_Fickle(WORDS), history="last_user")
    llm.chat([user("Hello"), assistant("Hi"), user("VAT?")])
    llm.chat([user("VAT?"), assistant(""), tool("20%")])
    assert events.served() == ["tax-llm", "tax-llm"]


def test_a_loop_that_was_not_begun_here_is_decided_by_the_users_turn(events: Events) -> None:
    routed().chat([user("VAT?"), assistant(""), tool("a flight")])
    assert events.served() == ["tax-llm"]


def test_a_loop_that_began_with_a_failure_stays_with_the_default(events: Events) -> None:
    engine = FailingEngine()
    llm = routed(model=engine)
    llm.chat([user("VAT?")])
    llm.chat([user("VAT?"), assistant(""), tool("20%")])
    assert events.served() == ["default-llm", "default-llm"]
    assert engine.calls == 1
