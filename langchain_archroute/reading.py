"""From whatever a Runnable may be given to the conversation a decision is made on. All routers read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from archroute.conversation import Conversation
from archroute.errors import ConversationError

Extract = str | Callable[[Any], Any]
"""What of an input is to be routed: a key of it, or a function of it."""

_KEYS = ("messages", "input")  # where LangGraph's states and LangChain's chains keep what the user said
_HINT = 'pass messages, a prompt value or a string, or say with extract="key" or extract=function where they are'


def read_conversation(source: Any, extract: Extract | None = None) -> Conversation:
    """The conversation in a Runnable's input.

    Example:
        >>> read_conversation([("system", "Be kind."), ("human", "fix this bug")]).turns
        (Turn(role='user', content='fix this bug'),)
        >>> read_conversation({"question": "fix this bug", "context": "…"}, "question").turns
        (Turn(role='user', content='fix this bug'),)

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


def is_message(source: Any) -> bool:
    """Whether `source` is one message: LangChain's own, or a `{role, content}` mapping."""
    return isinstance(source, BaseMessage) or (isinstance(source, Mapping) and {"role", "content"} <= source.keys())


def _read(source: Any) -> Conversation:
    if isinstance(source, Conversation):
        return source
    if isinstance(source, str):
        return Conversation.from_text(source)
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


def _from_messages(messages: Sequence[Any]) -> Conversation:
    if not all(isinstance(message, BaseMessage) for message in messages):
        try:
            messages = convert_to_messages(messages)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConversationError(f"the messages can't be read: {error}", hint=_HINT) from error
    return Conversation.from_messages({"role": _role(message), "content": message.content} for message in messages)


def _role(message: BaseMessage) -> str:
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    # A chat message names its role; what is left are system, tool, function and remove messages, none of which is read.
    return message.role if isinstance(message, ChatMessage) else "system"
