"""From areas to training cases: some policies on offer, conversations, and the right answer for each."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from archroute.conversation import Conversation, Turn
from archroute.policy import Policy
from training.embedded.noise import restyled
from training.embedded.phrases import CLOSINGS, CONTINUED, LEADS, REPLIES
from training.embedded.sources import Area, Concept

_CHATTY = "small_talk"
_CLOSED_BY = {"goodbye", "thank_you", "greeting"}
"""An area and concepts to which a closing may belong."""


@dataclass(frozen=True)
class Case:
    """One conversation and the place of the right policy among those on offer; None: none of them."""

    conversation: Conversation
    answer: int | None
    kind: str


@dataclass(frozen=True)
class Group:
    """Policies on offer, and conversations that all have them to choose from."""

    policies: tuple[Policy, ...]
    cases: tuple[Case, ...]


class Sampler:
    """Draws groups of cases.

    Args:
        areas: What to draw from.
        seed: Draws are the same for the same seed.
        augment: Whether names are restyled and conversations taken further, for training.
        alike: Pairs of concepts (`AREA/KEY`) of different areas that may both be right for a request, see `alike_concepts`.
    """

    def __init__(
        self, areas: Sequence[Area], seed: int, *, augment: bool, alike: Collection[tuple[str, str]] = frozenset()
    ) -> None:
        self._alike = alike
        self._areas = areas
        self._random = random.Random(seed)
        self._augment = augment
        self._by_source: dict[str, list[Area]] = {}
        for area in areas:
            self._by_source.setdefault(area.source, []).append(area)
        self._mixing = [area for area in areas if area.mixes and area.source == "written"]

    def group(self, *, policies: int, cases: int, weights: dict[str, float], absent: float = 0.25) -> Group:
        """One group.

        Args:
            policies: How many are on offer (fewer where the area has fewer).
            cases: How many conversations.
            weights: Source → how often it is drawn from.
            absent: The share of cases whose right answer is none.
        """
        draw = self._random
        area = self._area(weights)
        offered = self._offer(area, policies)
        shown: list[Policy] = [self._wording(concept) for _, concept in offered]
        owners: list[str] = [f"{owner.name}/{concept.key}" for owner, concept in offered]
        domain = bool(area.domain) and draw.random() < 0.2
        if domain:
            place = draw.randrange(len(shown) + 1)
            shown.insert(place, self._styled(draw.choice(area.domain)))
            owners.insert(place, f"{area.name}/")
        drawn = []
        for _ in range(cases):
            if draw.random() < absent:
                drawn.append(self._absent(area, offered, domain=domain))
            else:
                drawn.append(self._present(area, offered, owners, domain=domain))
        return Group(tuple(shown), tuple(drawn))

    def _area(self, weights: dict[str, float]) -> Area:
        draw = self._random
        source = draw.choices(list(weights), list(weights.values()))[0]
        return draw.choices(self._by_source[source], [len(area.concepts) for area in self._by_source[source]])[0]

    def _pool(self, area: Area, count: int) -> list[tuple[Area, Concept]]:
        """Concepts in the order in which they are offered: of the area and at times strangers, `count` in all, then the area's others."""
        draw = self._random
        pool = [(area, concept) for concept in area.concepts]
        draw.shuffle(pool)
        if area in self._mixing:
            strangers = draw.choice((0, 0, 0.3, 0.6, 0.9))
            others = [(other, draw.choice(other.concepts)) for other in draw.choices(self._mixing, k=count)]
            own = max(1, round(count * (1 - strangers)))
            foreign = [stranger for stranger in dict.fromkeys(others) if stranger[0] is not area]
            pool = pool[:own] + foreign + pool[own:]
        return pool

    def _offer(self, area: Area, count: int) -> list[tuple[Area, Concept]]:
        """Concepts that may stand side by side, most of them of one area."""
        draw = self._random
        kept = draw.choice(area.concepts).kin if not self._augment else frozenset()
        chosen: list[tuple[Area, Concept]] = []
        for owner, concept in self._pool(area, count):
            clash = any(self._related(owner, concept, other, taken) for other, taken in chosen)
            if not clash and concept.requests and concept.key not in kept:
                chosen.append((owner, concept))
            if len(chosen) == count:
                break
        draw.shuffle(chosen)
        return chosen

    def _related(self, area: Area, concept: Concept, other_area: Area, other: Concept) -> bool:
        """Whether both may be right for the same request."""
        if area is other_area:
            return concept.key == other.key or concept.key in other.overlaps or other.key in concept.overlaps
        pair = (f"{area.name}/{concept.key}", f"{other_area.name}/{other.key}")
        return pair in self._alike or pair[::-1] in self._alike

    def _present(self, area: Area, offered: list[tuple[Area, Concept]], owners: list[str], *, domain: bool) -> Case:
        draw = self._random
        if domain and draw.random() < 0.25:
            left = [
                c for c in area.concepts if not any(self._related(area, c, owner, other) for owner, other in offered)
            ]
            if left and draw.random() < 0.6:
                conversation = draw.choice(draw.choice(left).requests)
            else:
                conversation = Conversation.from_text(draw.choice(area.vague))
            return Case(self._staged(conversation, area), owners.index(f"{area.name}/"), "domain")
        owner, concept = draw.choice(offered)
        conversation = draw.choice(concept.requests)
        kind = "multi_turn" if len(conversation.turns) > 1 else "single"
        staged = self._staged(conversation, owner)
        if len(staged.turns) > len(conversation.turns):
            kind = "topic_change"
        return Case(staged, owners.index(f"{owner.name}/{concept.key}"), kind)

    def _absent(self, area: Area, offered: list[tuple[Area, Concept]], *, domain: bool) -> Case:
        """A conversation that belongs to nothing on offer."""
        draw = self._random
        choice = draw.random()
        if choice < 0.1 and not self._chatty(offered):
            return Case(self._closing(draw.choice(offered)[1]), None, "closing")
        alone = all(
            owner is area for owner, _ in offered
        )  # texts were written with the concepts of their own area in mind
        near = [text for _, concept in offered for text in concept.near_misses] if alone and not domain else []
        if choice < 0.35 and near:
            return Case(self._staged(Conversation.from_text(draw.choice(near)), area), None, "near_miss")
        if area.outside and alone and (choice > 0.7 or domain):
            return Case(self._staged(draw.choice(area.outside), area), None, "outside")
        pool = [area, area, draw.choice(self._mixing)] if area in self._mixing else [area]
        if domain:
            pool = [other for other in pool if other is not area] or [draw.choice(self._mixing)]
        source = draw.choice(pool)
        left = [
            concept
            for concept in source.concepts
            if concept.requests and not any(self._related(source, concept, *other) for other in offered)
            if self._augment or concept.kin.isdisjoint(other.key for owner, other in offered if owner is source)
        ]
        if not left:
            return self._absent(area, offered, domain=domain)
        return Case(self._staged(draw.choice(draw.choice(left).requests), area), None, "absent")

    def _chatty(self, offered: Sequence[tuple[Area, Concept]]) -> bool:
        """Whether a closing may belong to what is offered."""
        return any(owner.name == _CHATTY or concept.key in _CLOSED_BY for owner, concept in offered)

    def _closing(self, concept: Concept) -> Conversation:
        """A request that has been dealt with."""
        start = self._random.choice(concept.requests).turns
        return Conversation((*start, self._reply(concept), Turn("user", self._random.choice(CLOSINGS))))

    def _reply(self, concept: Concept) -> Turn:
        """What an assistant may have answered."""
        told = [turn for request in concept.requests for turn in request.turns if turn.role == "assistant"]
        if told and self._augment and self._random.random() < 0.6:
            return self._random.choice(told)
        return Turn("assistant", self._random.choice(REPLIES))

    def _staged(self, conversation: Conversation, area: Area, concept: Concept | None = None) -> Conversation:
        """The conversation, at times after turns on something else, at times taken further."""
        draw = self._random
        turns = conversation.turns
        if len(turns) == 1 and draw.random() < 0.3:
            before: list[Turn] = []
            for _ in range(draw.choice((1, 1, 2))):
                other = draw.choice([area, area, draw.choice(self._areas)])
                earlier = draw.choice([c for c in other.concepts if c.requests])
                before += [*draw.choice(earlier.requests).turns, self._reply(earlier)]
            if draw.random() < 0.4:
                turns = (Turn("user", f"{draw.choice(LEADS)} {turns[0].content}"),)
            turns = (*before[-6:], *turns)
        if concept and self._augment and area.source != "sgd" and draw.random() < 0.07:
            turns = (*turns, self._reply(concept), Turn("user", draw.choice(CONTINUED)))
        return Conversation(turns)

    def _wording(self, concept: Concept) -> Policy:
        return self._styled(self._random.choice(concept.wordings))

    def _styled(self, policy: Policy) -> Policy:
        return restyled(policy, self._random) if self._augment else policy
