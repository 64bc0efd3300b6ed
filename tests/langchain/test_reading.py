"""What of an input is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate

from archroute import Conversation, ConversationError, Turn
from langchain_archroute.reading import read_conversation

ASKED = (Turn("user", "fix this bug"),)


@dataclass
class State:
    messages: list[Any]


@pytest.mark.parametrize(
    "source",
    [
        "fix this bug",
        HumanMessage("fix this bug"),
        [HumanMessage("fix this bug")],
        (HumanMessage("fix this bug"),),
        [("human", "fix this bug")],
        ["fix this bug"],
        [{"role": "user", "content": "fix this bug"}],
        {"role": "user", "content": "fix this bug"},
        {"messages": [HumanMessage("fix this bug")], "other": 1},
        {"input": "fix this bug"},
        State([HumanMessage("fix this bug")]),
        ChatPromptTemplate.from_messages([("system", "Be kind."), ("human", "{x}")]).invoke({"x": "fix this bug"}),
        PromptTemplate.from_template("fix {x}").invoke({"x": "this bug"}),
        Conversation(ASKED),
        [HumanMessageChunk("fix this bug")],
        [ChatMessage(role="user", content="fix this bug")],
    ],
)
def test_every_form_of_an_input_is_read(source):
    assert read_conversation(source).turns == ASKED


def test_user_and_assistant_text_is_kept_and_all_else_dropped():
    messages = [
        SystemMessage("Be kind."),
        HumanMessage([{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:"}}]),
        AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}]),
        ToolMessage("a cat", tool_call_id="1"),
        AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a cat"}]),
        RemoveMessage(id="9"),
        AIMessageChunk("really"),
        HumanMessage("thanks"),
    ]
    assert read_conversation(messages).turns == (
        Turn("user", "what is this?"),
        Turn("assistant", "a cat"),
        Turn("assistant", "really"),
        Turn("user", "thanks"),
    )


@pytest.mark.parametrize("extract", ["question", lambda value: value["question"]])
def test_extract_says_where_the_conversation_is(extract):
    assert read_conversation({"question": "fix this bug", "input": "else"}, extract).turns == ASKED


@pytest.mark.parametrize(
    "source", [{"question": "fix"}, 7, None, b"bytes", [object()], [("nobody", "hi")], {"messages": None}]
)
def test_what_holds_no_conversation_is_refused_with_a_hint(source):
    with pytest.raises(ConversationError) as refused:
        read_conversation(source)
    assert refused.value.hint


def test_a_missing_key_is_named():
    with pytest.raises(ConversationError, match="'question'"):
        read_conversation({"input": "x"}, "question")
