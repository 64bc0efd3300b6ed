"""Training steps: many policies and conversations are read once, and compared among several choices of the policies.

A conversation whose policy is not among those chosen belongs to `other` there, with all the policies that are near to its own still on
offer: the hard cases cost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archroute.conversation import Conversation
from archroute.policy import Policy
from training.embedded.sampling import Sampler
from training.embedded.sources import Area, Concept

SIZES = (2, 14)
"""The least and most policies of a choice."""

_MIXED = 24  # the policies of which some are of other areas, where areas are mixed
_FOREIGN = 0.2  # the share of conversations that belong to none of the policies of the room


@dataclass(frozen=True)
class Member:
    """One conversation of a room.

    Attributes:
        conversation: What is said.
        answers: Places of the policies it belongs to: the first of them that is chosen is right.
        unclear: Places of policies that may be right as well, so that nothing is learned where one of them is chosen.
    """

    conversation: Conversation
    answers: tuple[int, ...]
    unclear: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Room:
    """Policies, and conversations that may belong to one of them."""

    policies: tuple[Policy, ...]
    members: tuple[Member, ...]


class Choice(NamedTuple):
    """Some policies of a room, the members who are asked about them, and the right place for each; `len(policies)` is none."""

    policies: list[int]
    members: list[int]
    answers: list[int]


def choices(room: Room, count: int, draw: random.Random) -> list[Choice]:
    """Draws some choices among the policies of the room."""
    found = []
    for _ in range(count):
        size = min(draw.randint(*SIZES), len(room.policies))
        policies = draw.sample(range(len(room.policies)), size)
        members, answers = [], []
        for number, member in enumerate(room.members):
            if member.unclear.isdisjoint(policies):
                right = next((place for place in member.answers if place in policies), None)
                members.append(number)
                answers.append(size if right is None else policies.index(right))
        if members:
            found.append(Choice(policies, members, answers))
    return found


class RoomSampler(Sampler):
    """Draws rooms."""

    def room(self, *, policies: int, members: int, weights: dict[str, float]) -> Room:
        """One room.

        Args:
            policies: How many there are (fewer where the area has fewer).
            members: How many conversations.
            weights: Source → how often it is drawn from.
        """
        draw = self._random
        area = self._area(weights)
        offered = self._pool(area, _MIXED)[:policies]
        draw.shuffle(offered)
        shown = [self._wording(concept) for _, concept in offered]
        domain = None
        if area.domain and draw.random() < 0.3:
            domain = len(shown)
            shown.append(self._styled(draw.choice(area.domain)))
        drawn: list[Member] = []
        while len(drawn) < members:
            if draw.random() < _FOREIGN:
                drawn.append(self._foreign(area, offered, domain))
            elif domain is not None and draw.random() < 0.1 and area.vague:
                text = Conversation.from_text(draw.choice(area.vague))
                drawn.append(Member(self._staged(text, area), (domain,)))
            else:
                owner, concept = draw.choice(offered)
                if concept.requests:
                    conversation = self._staged(draw.choice(concept.requests), owner, concept)
                    drawn.append(self._member(conversation, owner, concept, offered, area, domain))
        return Room(tuple(shown), tuple(drawn))

    def _member(
        self,
        conversation: Conversation,
        owner: Area,
        concept: Concept,
        offered: Sequence[tuple[Area, Concept]],
        area: Area,
        domain: int | None,
    ) -> Member:
        answers = [number for number, (_, other) in enumerate(offered) if other is concept]
        unclear = {
            number
            for number, (other_area, other) in enumerate(offered)
            if other is not concept and self._related(owner, concept, other_area, other)
        }
        if domain is not None and owner is area:
            answers.append(domain)
        elif domain is not None:
            unclear |= {domain} if self._near(owner, concept, area) else set()
        return Member(conversation, tuple(answers), frozenset(unclear))

    def _near(self, owner: Area, concept: Concept, area: Area) -> bool:
        """Whether a concept of another area may belong to the whole of this one."""
        return any(self._related(owner, concept, area, other) for other in area.concepts)

    def _foreign(self, area: Area, offered: Sequence[tuple[Area, Concept]], domain: int | None) -> Member:
        """A conversation of which no policy of the room was thought when it was written."""
        draw = self._random
        choice = draw.random()
        alone = all(owner is area for owner, _ in offered)
        if choice < 0.2 and not self._chatty(offered):
            return Member(self._closing(draw.choice([concept for _, concept in offered if concept.requests])), ())
        near = [text for _, concept in offered for text in concept.near_misses] if alone and domain is None else []
        if choice < 0.45 and near:
            return Member(self._staged(Conversation.from_text(draw.choice(near)), area), ())
        if choice > 0.7 and area.outside and alone:
            return Member(self._staged(draw.choice(area.outside), area), ())
        source = area if area not in self._mixing or draw.random() < 0.4 else draw.choice(self._mixing)
        concept = draw.choice([concept for concept in source.concepts if concept.requests])
        conversation = self._staged(draw.choice(concept.requests), source, concept)
        return self._member(conversation, source, concept, offered, area, domain)
