"""The conversation a decision is made on: what of it is kept, and how it is made to fit.

User and assistant text is kept. System, developer and tool messages are dropped, and so are messages without text (bare tool
calls); of a multimodal message the text parts stay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from archroute.errors import ConversationError, SettingError

Role = Literal["user", "assistant"]

History = Literal["all", "last_user"] | int
"""How much of a conversation the router reads: all of it, the last user message alone, or the last n user turns with their replies."""

_ROLES: dict[str, Role | None] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "system": None,
    "developer": None,
    "tool": None,
    "function": None,
}
_CUT = " … "
_CHARACTERS_PER_TOKEN = 32  # more than any prose has: what is beyond this many a token can be cut before it is counted


@dataclass(frozen=True)
class Turn:
    """One message that a router reads."""

    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """What a decision is made on: user and assistant turns, oldest first.

    Example:
        >>> Conversation.from_messages([{"role": "user", "content": "fix this bug"}]).turns
        (Turn(role='user', content='fix this bug'),)

    Attributes:
        turns: Oldest first.
        truncated: Whether text was left out to make it fit a token budget.
    """

    turns: tuple[Turn, ...]
    truncated: bool = False

    @classmethod
    def from_text(cls, text: str) -> Conversation:
        """A conversation of one user message."""
        return cls.from_messages([{"role": "user", "content": text}])

    @classmethod
    def from_messages(cls, messages: Iterable[Mapping[str, Any]]) -> Conversation:
        """From `{"role": …, "content": …}` mappings, content a string or a list of content parts.

        Raises:
            ConversationError: A message is no such mapping or its role is unknown.
        """
        turns = []
        for number, message in enumerate(messages):
            if not isinstance(message, Mapping) or "role" not in message:
                raise ConversationError(
                    f"message {number} is no mapping with a role: {type(message).__name__}",
                    hint='write messages as {"role": "user", "content": "…"}',
                )
            turn = _turn(str(message["role"]), message.get("content"), number)
            if turn:
                turns.append(turn)
        return cls(tuple(turns))

    @classmethod
    def of(cls, source: Conversation | str | Iterable[Mapping[str, Any]]) -> Conversation:
        """From whichever of the forms above `source` has."""
        if isinstance(source, Conversation):
            return source
        if isinstance(source, str):
            return cls.from_text(source)
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise ConversationError(
                f"a {type(source).__name__} is no conversation",
                hint="pass a string or a list of {role, content} messages",
            )
        return cls.from_messages(source)

    def window(self, history: History) -> Conversation:
        """The part of the conversation that `history` lets the router read.

        Raises:
            ConversationError: There is no user turn.
        """
        users = [number for number, turn in enumerate(self.turns) if turn.role == "user"]
        if not users:
            raise ConversationError("the conversation has no user message with text", hint="add the message to route")
        if history == "all":
            return self
        if history == "last_user":
            return Conversation((self.turns[users[-1]],), self.truncated)
        return Conversation(self.turns[users[-min(history, len(users))] :], self.truncated)

    def fit(self, measure: Callable[[Conversation], int], limit: int) -> Conversation:
        """The newest of the conversation that measures at most `limit`.

        As many of the newest turns stay as fit. If the one before them is the user's, its middle is cut to the room that is left. The
        last user message always stays, cut in its middle if it must be.

        Args:
            measure: The size, in tokens, of the prompt that holds a conversation; grows with the conversation.
            limit: The largest allowed size, in tokens.

        Raises:
            ConversationError: Not even a few characters of the last user message fit.
        """

        def fits(turns: tuple[Turn, ...]) -> bool:
            countable = sum(len(turn.content) for turn in turns) <= limit * _CHARACTERS_PER_TOKEN
            return countable and measure(Conversation(turns, True)) <= limit

        if fits(self.turns):
            return self
        last = max(number for number, turn in enumerate(self.turns) if turn.role == "user")
        kept = self.turns[last:]
        if not fits(kept):
            kept = (self.turns[last],)
        if not fits(kept):
            trimmed = _trimmed(self.turns[last], (), measure, limit)
            if trimmed is None:
                raise ConversationError(
                    f"the policies leave no room for the conversation: the prompt may have {limit} tokens",
                    hint="shorten the policies' descriptions, allow a longer prompt, or use two routers",
                )
            return Conversation((trimmed,), True)
        first = bisect_left(range(last), True, key=lambda start: fits((*self.turns[start:last], *kept)))
        whole = (*self.turns[first:last], *kept)
        if first and self.turns[first - 1].role == "user":
            trimmed = _trimmed(self.turns[first - 1], whole, measure, limit)
            whole = (trimmed, *whole) if trimmed else whole
        return Conversation(whole, True)


def check_history(history: History) -> History:
    """`history` as it is, if it is a valid window.

    Raises:
        SettingError: It is neither `"all"`, `"last_user"` nor a positive number of turns.
    """
    whole_number = isinstance(history, int) and not isinstance(history, bool)
    if history in ("all", "last_user") or (whole_number and int(history) > 0):
        return history
    raise SettingError(f"history={history!r}", hint='use "all", "last_user" or a positive number of user turns')


def text_of(content: object) -> str:
    """The text of a message's content: the string itself, or its text parts, a line each."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and part.get("type") in ("text", "input_text", "output_text"):
            parts.append(str(part.get("text", "")))
    return "\n".join(part for part in parts if part)


def _turn(role: str, content: object, number: int) -> Turn | None:
    """The turn a message makes, or None if it is one of those that are dropped."""
    if role.lower() not in _ROLES:
        raise ConversationError(
            f"message {number} has the unknown role {role!r}", hint=f"roles are {', '.join(sorted(_ROLES))}"
        )
    kept, text = _ROLES[role.lower()], text_of(content)
    return Turn(kept, text) if kept and text.strip() else None


def _cut(text: str, characters: int) -> str:
    """`text` with its middle left out, so that about `characters` of it stay."""
    if len(text) <= characters:
        return text
    return text[: (characters + 1) // 2] + _CUT + text[len(text) - characters // 2 :]


def _trimmed(turn: Turn, newer: tuple[Turn, ...], measure: Callable[[Conversation], int], limit: int) -> Turn | None:
    """`turn` with as little of its middle cut as lets it stand before `newer`, or None if hardly any of it can stay."""
    least = fits = 16  # characters: fewer tell a router nothing
    most = min(len(turn.content), limit * _CHARACTERS_PER_TOKEN)
    if measure(Conversation((Turn(turn.role, _cut(turn.content, least)), *newer), True)) > limit:
        return None
    while most - fits > 1:
        middle = (fits + most) // 2
        if measure(Conversation((Turn(turn.role, _cut(turn.content, middle)), *newer), True)) <= limit:
            fits = middle
        else:
            most = middle
    return Turn(turn.role, _cut(turn.content, fits))
