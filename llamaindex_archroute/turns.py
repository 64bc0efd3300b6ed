"""One decision a user turn: where the turn ends in an agent's messages, and what was decided for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from archroute import Conversation, Decision
from archroute.conversation import History
from llamaindex_archroute.agent_forms import is_agents_own, unwrapped
from llamaindex_archroute.messages import to_conversation

_KEPT = 1024  # turns whose decision is remembered: those whose tool loop may still be running


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


class TurnDecisions:
    """The decisions of the latest turns, so that a tool loop stays with the model that began it. Safe under threads."""

    def __init__(self) -> None:
        self._decisions: OrderedDict[Conversation, Decision] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, turn: Conversation) -> Decision | None:
        """The decision last made for `turn`, if it is still known."""
        with self._lock:
            return self._decisions.get(turn)

    def put(self, turn: Conversation, decision: Decision) -> None:
        """Remember `decision`; the oldest one is forgotten when there are too many."""
        with self._lock:
            self._decisions[turn] = decision
            self._decisions.move_to_end(turn)
            if len(self._decisions) > _KEPT:
                self._decisions.popitem(last=False)
