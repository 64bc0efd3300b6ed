"""What of a conversation is kept, the history window, and fitting into a token budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute import Conversation, ConversationError, Policy, Router, SettingError, Turn

CHAT = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "reply one"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "reply two"},
    {"role": "user", "content": "three"},
]


def contents(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.turns]


def words(conversation: Conversation) -> int:
    return sum(len(turn.content.split()) for turn in conversation.turns)


def test_system_tool_and_textless_messages_are_dropped():
    assert contents(Conversation.from_messages(CHAT)) == ["one", "reply one", "two", "reply two", "three"]


def test_text_parts_of_multimodal_content_stay():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "what is"}, image, {"type": "text", "text": "this?"}],
    }
    assert contents(Conversation.from_messages([message])) == ["what is\nthis?"]
    assert not Conversation.from_messages([{"role": "user", "content": [image]}]).turns


def test_roles_of_both_frameworks_are_known():
    turns = Conversation.from_messages([{"role": "human", "content": "a"}, {"role": "ai", "content": "b"}]).turns
    assert turns == (Turn("user", "a"), Turn("assistant", "b"))


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([{"role": "wizard", "content": "x"}], "wizard"),
        ([{"content": "x"}], "message 0"),
        (["hello"], "message 0"),
    ],
)
def test_unreadable_messages_are_named(messages: list, named: str):
    with pytest.raises(ConversationError, match=named) as caught:
        Conversation.from_messages(messages)
    assert caught.value.hint
    assert not caught.value.retryable


def test_history_windows():
    chat = Conversation.from_messages(CHAT)
    assert chat.window("all") == chat
    assert contents(chat.window("last_user")) == ["three"]
    assert contents(chat.window(1)) == ["three"]
    assert contents(chat.window(2)) == ["two", "reply two", "three"]
    assert contents(chat.window(99)) == contents(chat)


def test_last_user_leaves_out_replies_after_it():
    chat = Conversation((Turn("user", "question"), Turn("assistant", "half an answer")))
    assert contents(chat.window("last_user")) == ["question"]
    assert contents(chat.window(1)) == ["question", "half an answer"]


@pytest.mark.parametrize("history", [0, -1, "some", True, 1.5])
def test_impossible_windows_are_refused(history: object):
    with pytest.raises(SettingError, match="history"):
        Router([Policy("a", "b")], model="embedded", history=history)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "messages", [[], [{"role": "assistant", "content": "hi"}], [{"role": "user", "content": "  "}]]
)
def test_nothing_to_route_is_an_error(messages: list):
    with pytest.raises(ConversationError, match="no user message"):
        Conversation.from_messages(messages).window("all")


def test_what_fits_is_left_alone():
    chat = Conversation.from_messages(CHAT)
    assert chat.fit(words, 100) is chat


def test_the_oldest_turns_go_first():
    chat = Conversation.from_messages(CHAT)
    fitted = chat.fit(words, words(chat) - 3)  # "one" and "reply one" no longer fit whole
    assert contents(fitted)[-3:] == ["two", "reply two", "three"]
    assert fitted.truncated


def test_a_user_message_too_large_loses_its_middle():
    text = " ".join(f"w{number}" for number in range(1000))
    fitted = Conversation.from_text(text).fit(words, 100)
    kept = contents(fitted)[0].split()
    assert fitted.truncated
    assert kept[0] == "w0"
    assert kept[-1] == "w999"
    assert 90 <= len(kept) <= 100


def test_replies_after_the_last_user_message_go_before_it_does():
    chat = Conversation((Turn("user", "a question of five words"), Turn("assistant", "blah " * 50)))
    assert contents(chat.fit(words, 10)) == ["a question of five words"]


def test_huge_texts_are_cut_before_they_are_counted():
    counted = []

    def measure(conversation: Conversation) -> int:
        counted.append(sum(len(turn.content) for turn in conversation.turns))
        return words(conversation)

    Conversation.from_text("word " * 1_000_000).fit(measure, 50)
    assert max(counted) < 10_000


def test_no_room_at_all_is_an_error():
    with pytest.raises(ConversationError, match="no room"):
        Conversation.from_text("hello there").fit(lambda _: 1000, 100)


@given(
    texts=st.lists(st.text(alphabet="ab ", min_size=1, max_size=200).filter(str.strip), min_size=1, max_size=8),
    limit=st.integers(min_value=20, max_value=300),
)
def test_fitting_never_exceeds_the_limit_and_keeps_the_end(texts: list[str], limit: int):
    turns = tuple(Turn("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(texts))
    chat = Conversation(turns)

    def measure(conversation: Conversation) -> int:
        return sum(len(turn.content) for turn in conversation.turns)

    fitted = chat.fit(measure, limit)
    assert measure(fitted) <= limit
    assert fitted.truncated == (fitted.turns != chat.turns)
    last = max(number for number, turn in enumerate(turns) if turn.role == "user")
    kept = next(turn for turn in reversed(fitted.turns) if turn.role == "user").content
    assert kept == turns[last].content or (kept[0] == turns[last].content[0] and kept[-1] == turns[last].content[-1])
