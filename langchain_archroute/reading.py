"""From whatever a Runnable may be given to the conversation a decision is made on, and to what its target must be able to do.

All routers read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue

from archroute.conversation import Conversation, text_of
from archroute.dispatch import Needs, Request, estimated_tokens
from archroute.errors import ConversationError

Extract = str | Callable[[Any], Any]
"""What of an input is to be routed: a key of it, or a function of it."""

_KEYS = ("messages", "input")  # where LangGraph's states and LangChain's chains keep what the user said
_IMAGES = {"image", "image_url", "input_image"}  # LangChain's own kinds of block and the providers'
_HINT = 'pass messages, a prompt value or a string, or say with extract="key" or extract=function where they are'


@dataclass(frozen=True)
class Reading:
    """What was read of an input.

    Attributes:
        conversation: What is decided on.
        messages: Where it was read, if the input has messages.
    """

    conversation: Conversation
    messages: Sequence[BaseMessage] = ()

    def request(self, session: str | None = None, *, tools: bool = False) -> Request:
        """What dispatch needs to know of it.

        Args:
            session: What tells the user's session from others.
            tools: Whether tools are to be called.
        """
        needs = Needs(any(_pictured(message.content) for message in self.messages), tools, self._tokens())
        return Request.of(self.conversation, session=session, in_loop=self._in_loop(), needs=needs)

    def _tokens(self) -> int:
        if not self.messages:
            return estimated_tokens(sum(len(turn.content) for turn in self.conversation.turns))
        return estimated_tokens(sum(len(text_of(message.content)) for message in self.messages))

    def _in_loop(self) -> bool:
        """Whether a model or a tool has spoken since the user."""
        for message in reversed(self.messages):
            if _role(message) == "user":
                return False
            if isinstance(message, AIMessage | ToolMessage | FunctionMessage):
                return any(_role(message) == "user" for message in self.messages)
        return False


def read(source: Any, extract: Extract | None = None) -> Reading:
    """What is in a Runnable's input.

    Args:
        source: Messages in any form LangChain takes, one message, a prompt value, a string, or a mapping or state object with
            one of them under `messages` or `input`.
        extract: The key or attribute of `source` that is to be read instead, or a function that finds it.

    Raises:
        ConversationError: There is nothing to read in it.
    """
    if callable(extract):
        source = extract(source)
    elif extract is not None:
        source = _field(source, extract)
    return _read(source)


def read_conversation(source: Any, extract: Extract | None = None) -> Conversation:
    """The conversation in a Runnable's input; see `read`.

    Example:
        >>> read_conversation([("system", "Be kind."), ("human", "fix this bug")]).turns
        (Turn(role='user', content='fix this bug'),)
        >>> read_conversation({"question": "fix this bug", "context": "…"}, "question").turns
        (Turn(role='user', content='fix this bug'),)
    """
    return read(source, extract).conversation


def is_message(source: Any) -> bool:
    """Whether `source` is one message: LangChain's own, or a `{role, content}` mapping."""
    return isinstance(source, BaseMessage) or (isinstance(source, Mapping) and {"role", "content"} <= source.keys())


def _read(source: Any) -> Reading:
    if isinstance(source, Conversation):
        return Reading(source)
    if isinstance(source, str):
        return Reading(Conversation.from_text(source))
    if isinstance(source, PromptValue):
        return _from_messages(source.to_messages())
    if is_message(source):
        return _from_messages([source])
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        return _from_messages(source)
    for key in _KEYS:
        found = source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)
        if found is not None:
            return _read(found)
    raise ConversationError(f"there is no conversation in a {_kind(source)}", hint=_HINT)


def _field(source: Any, key: str) -> Any:
    found = source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)
    if found is None:
        raise ConversationError(f"a {_kind(source)} has no {key!r}", hint="check extract=")
    return found


def _kind(source: Any) -> str:
    keys = f" with the keys {', '.join(map(str, source))}" if isinstance(source, Mapping) else ""
    return f"{type(source).__name__}{keys}"


def _from_messages(messages: Sequence[Any]) -> Reading:
    if not all(isinstance(message, BaseMessage) for message in messages):
        try:
            messages = convert_to_messages(messages)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConversationError(f"the messages can't be read: {error}", hint=_HINT) from error
    conversation = Conversation.from_messages(
        {"role": _role(message), "content": message.content} for message in messages
    )
    return Reading(conversation, messages)


def _role(message: BaseMessage) -> str:
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    # A chat message names its role; what is left are system, tool, function and remove messages, none of which is read.
    return message.role if isinstance(message, ChatMessage) else "system"


def _pictured(content: object) -> bool:
    """Whether a message's content, or what a block of it holds, has a picture."""
    if isinstance(content, str) or not isinstance(content, Sequence):
        return False
    return any(_is_picture(block) or _pictured(block.get("content")) for block in content if isinstance(block, Mapping))


def _is_picture(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    if kind is None:  # Bedrock's blocks are named by their one key
        return not _IMAGES.isdisjoint(block)
    return kind in _IMAGES or str(block.get("mime_type", "")).startswith("image/")
