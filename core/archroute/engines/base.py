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


@dataclass(frozen=True)
class CacheStats:
    """What a prefix cache has done.

    Attributes:
        hits: Look-ups that found a beginning; a call makes one for each set of policies and one for each conversation.
        misses: Look-ups that found none.
        tokens_saved: Tokens that were not read again.
        bytes: What is held now.
        entries: How many beginnings are held now.
    """

    hits: int
    misses: int
    tokens_saved: int
    bytes: int
    entries: int


class Engine(ABC):
    """A model that scores policies against conversations. Safe to call from several threads.

    Attributes:
        name: What decisions call the model.
    """

    name: str

    @property
    def cache_stats(self) -> CacheStats | None:
        """What the engine's cache of prompts has done; None for an engine without one."""
        return None

    @abstractmethod
    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """Score every conversation against all routes and `other`.

        Args:
            routes: At least one policy, names unique.
            conversations: Each with at least one user turn, already cut to the user's history window.

        Returns:
            One `Scores` a conversation, in order.
        """

    def score_each(self, asked: Sequence[tuple[Sequence[Policy], Conversation]]) -> list[Scores]:
        """Score conversations that have routes of their own; as it stands here, with one `score` for each set of routes.

        Engines that can read several sets in one pass do better.

        Args:
            asked: Routes and a conversation each, as for `score`.

        Returns:
            One `Scores` a pair, in order.
        """
        groups: dict[tuple[Policy, ...], list[int]] = {}
        for number, (routes, _) in enumerate(asked):
            groups.setdefault(tuple(routes), []).append(number)
        found: dict[int, Scores] = {}
        for routes, numbers in groups.items():
            found |= zip(numbers, self.score(routes, [asked[number][1] for number in numbers]), strict=True)
        return [found[number] for number in range(len(asked))]
