"""What an engine is: policies and conversations in, probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archroute.conversation import Conversation
from archroute.policy import Policy


@dataclass(frozen=True)
class Scores:
    """What an engine says of one conversation.

    Attributes:
        probabilities: Every route's and `other`'s, summing to 1.
        coverage: The probability of all valid answers before normalisation, from 0 to 1.
        prompt_tokens: Tokens the model read for it, cached ones included.
        truncated: Whether the conversation was cut to fit.
    """

    probabilities: Mapping[str, float]
    coverage: float
    prompt_tokens: int
    truncated: bool


class Engine(ABC):
    """A model that scores policies against conversations. Safe to call from several threads.

    Attributes:
        name: What decisions call the model.
    """

    name: str

    @abstractmethod
    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """Score every conversation against all routes and `other`.

        Args:
            routes: At least one policy, names unique.
            conversations: Each with at least one user turn, already cut to the user's history window.

        Returns:
            One `Scores` a conversation, in order.
        """
