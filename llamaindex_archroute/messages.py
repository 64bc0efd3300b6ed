"""From LlamaIndex's chat messages to the conversation that a router reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from archroute import Conversation
from archroute.conversation import Turn

Message = ChatMessage | Mapping[str, Any]
"""A chat message of LlamaIndex's, or a `{role, content}` mapping."""


def to_conversation(messages: Iterable[Message]) -> Conversation:
    """The conversation that `messages` are: user and assistant text, in order.

    Raises:
        ConversationError: A message can't be read.
    """
    return Conversation.from_messages(_mapping(message) for message in messages)


def with_query(earlier: Conversation, query: str) -> Conversation:
    """`earlier` with `query` as its last user turn, which it may hold already: chat engines store the message first."""
    if not query.strip():
        return Conversation(())  # an earlier turn must not be routed in the query's place
    turn = Turn("user", query)
    return earlier if earlier.turns[-1:] == (turn,) else Conversation((*earlier.turns, turn), earlier.truncated)


def _mapping(message: Message) -> Mapping[str, Any]:
    if not isinstance(message, ChatMessage):
        return message
    role = getattr(message.role, "value", message.role)  # a role set after construction may be a plain string
    return {"role": role, "content": message.content or ""}
