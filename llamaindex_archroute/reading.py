"""What a call asks: the user's turn, as the router reads it, and what dispatch needs to know beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole

from archroute import Conversation
from archroute.conversation import History
from archroute.dispatch import Needs, Request, estimated_tokens
from llamaindex_archroute.agent_forms import is_agents_own, unwrapped
from llamaindex_archroute.messages import to_conversation
from llamaindex_archroute.session import SessionSource, session_key


@dataclass(frozen=True)
class Call:
    """A call of one of the router's methods.

    Attributes:
        read: Returns the messages that are routed.
        tools: Whether it has tools for the target to call.
        characters: How long what it sends beside the messages is.
    """

    read: Callable[[], Sequence[ChatMessage]]
    tools: bool = False
    characters: int = 0

    def asked(self, history: History, session: SessionSource) -> tuple[Request, Conversation | Exception]:
        """What dispatch needs to know, and what the router is to read, or why it can't."""
        needs, key = Needs(tools=self.tools), session_key(session)
        try:
            messages = self.read()
            needs = _needs(messages, self)
            turn, in_loop = split_loop(messages)
            conversation = read_turn(turn, history)
        except Exception as error:
            return Request.of(None, session=key, needs=needs), error
        return Request.of(conversation, session=key, in_loop=in_loop, needs=needs), conversation


def split_loop(messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], bool]:
    """The messages up to the user's latest turn, and whether an agent's loop has gone on after it."""
    messages = unwrapped(messages)
    for number in range(len(messages) - 1, -1, -1):
        if messages[number].role == MessageRole.USER and not is_agents_own(messages, number):
            return messages[: number + 1], number + 1 < len(messages)
    return messages, False


def read_turn(messages: Sequence[ChatMessage], history: History) -> Conversation:
    """What the router reads of messages that end in a user's turn.

    Raises:
        ConversationError: A message can't be read, or none is the user's.
    """
    once = [
        message
        for number, message in enumerate(messages)
        # An agent that asks again repeats the user's message; it is the same turn.
        if number == 0 or message.role != MessageRole.USER or message != messages[number - 1]
    ]
    return to_conversation(once).window(history)


def _needs(messages: Sequence[ChatMessage], call: Call) -> Needs:
    characters = call.characters + sum(len(message.content or "") for message in messages)
    images = any(_has_image(message.blocks) for message in messages)
    return Needs(images=images, tools=call.tools, tokens=estimated_tokens(characters))


def _has_image(blocks: Iterable[Any]) -> bool:
    """Whether there is a picture, or a citation that holds one."""
    for block in blocks:
        inner = getattr(block, "cited_content", None) or getattr(block, "content", None)
        if isinstance(block, ImageBlock) or isinstance(inner, ImageBlock):
            return True
        if isinstance(inner, list) and _has_image(inner):
            return True
    return False
