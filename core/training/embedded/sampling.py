"""From areas to training cases: some policies on offer, conversations, and the right answer for each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from archroute.conversation import Conversation, Turn
from archroute.policy import Policy
from training.embedded.noise import misspelt, restyled
from training.embedded.sources import Area, Concept

_REPLIES = (
    "Sure, here it is.",
    "Done. Anything else?",
    "Here's what I found.",
    "I've taken care of that for you.",
    "Of course! Could you tell me a bit more?",
    "Let me know if you'd like any changes.",
    "That should do it. What's next?",
)
_CLOSINGS = (
    "thanks, that's all",
    "perfect, that's exactly what i needed",
    "ok great, thank you so much!",
    "no that's it for today, bye",
    "Awesome, it works now. Cheers!",
    "got it, thx",
    "Never mind, I figured it out myself.",
    "cool cool, talk later",
    "I have no more questions.",
    "you're a star, goodnight",
)


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
        augment: Whether names are restyled and texts misspelt, for training.
    """

    def __init__(self, areas: Sequence[Area], seed: int, *, augment: bool) -> None:
        self._areas = areas
        self._random = random.Random(seed)
        self._augment = augment
        self._by_source: dict[str, list[Area]] = {}
        for area in areas:
            self._by_source.setdefault(area.source, []).append(area)
        self._mixing = [area for area in areas if area.mixes and area.source == "written"]

    def size(self, least: int, most: int) -> int:
        """A number of policies to offer."""
        return self._random.randint(least, most)

    def group(self, *, policies: int, cases: int, weights: dict[str, float], absent: float = 0.25) -> Group:
        """One group.

        Args:
            policies: How many are on offer (fewer where the area has fewer).
            cases: How many conversations.
            weights: Source → how often it is drawn from.
            absent: The share of cases whose right answer is none.
        """
        draw = self._random
        source = draw.choices(list(weights), list(weights.values()))[0]
        area = draw.choices(self._by_source[source], [len(area.concepts) for area in self._by_source[source]])[0]
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

    def _offer(self, area: Area, count: int) -> list[tuple[Area, Concept]]:
        """Concepts that may stand side by side, most of them of one area."""
        draw = self._random
        pool = [(area, concept) for concept in area.concepts]
        draw.shuffle(pool)
        if area.mixes and self._mixing and area.source == "written":
            strangers = draw.choice((0, 0, 0.2, 0.5, 0.8))
            others = [(other, draw.choice(other.concepts)) for other in draw.choices(self._mixing, k=count)]
            own = max(1, round(count * (1 - strangers)))
            pool = pool[:own] + [stranger for stranger in others if stranger[0] is not area] + pool[own:]
        chosen: list[tuple[Area, Concept]] = []
        for owner, concept in pool:
            clash = any(
                owner is other
                and (concept.key == taken.key or concept.key in taken.overlaps or taken.key in concept.overlaps)
                for other, taken in chosen
            )
            if not clash and concept.requests:
                chosen.append((owner, concept))
            if len(chosen) == count:
                break
        draw.shuffle(chosen)
        return chosen

    def _present(self, area: Area, offered: list[tuple[Area, Concept]], owners: list[str], *, domain: bool) -> Case:
        draw = self._random
        if domain and draw.random() < 0.25:
            left = [concept for concept in area.concepts if (area, concept) not in offered]
            overlapped = {key for owner, concept in offered if owner is area for key in concept.overlaps}
            left = [c for c in left if c.key not in overlapped and not c.overlaps & {o.key for _, o in offered}]
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
        texts: list[str] = list(area.outside)
        near = [text for owner, concept in offered if owner is area for text in concept.near_misses]
        choice = draw.random()
        if choice < 0.1:
            _, concept = draw.choice(offered)
            start = draw.choice(concept.requests).turns
            turns = (*start, Turn("assistant", draw.choice(_REPLIES)), Turn("user", draw.choice(_CLOSINGS)))
            return Case(Conversation(turns), None, "closing")
        if choice < 0.35 and near:
            return Case(self._staged(Conversation.from_text(draw.choice(near)), area), None, "near_miss")
        taken = {(owner.name, concept.key) for owner, concept in offered}
        alike = {(owner.name, key) for owner, concept in offered for key in concept.overlaps}
        left = [
            concept
            for concept in area.concepts
            if (area.name, concept.key) not in taken | alike
            and concept.requests
            and not any(owner is area and concept.key in other.overlaps for owner, other in offered)
            and not any(owner is area and other.key in concept.overlaps for owner, other in offered)
        ]
        if left and not domain and (choice < 0.7 or not texts):
            return Case(self._staged(draw.choice(draw.choice(left).requests), area), None, "absent")
        if not texts:
            stranger = draw.choice(self._mixing)
            return Case(self._staged(draw.choice(draw.choice(stranger.concepts).requests), area), None, "absent")
        return Case(self._staged(Conversation.from_text(draw.choice(texts)), area), None, "outside")

    def _staged(self, conversation: Conversation, area: Area) -> Conversation:
        """The conversation, at times after turns on something else, and misspelt."""
        draw = self._random
        turns = conversation.turns
        if len(turns) == 1 and draw.random() < 0.3:
            before: list[Turn] = []
            for _ in range(draw.choice((1, 1, 2))):
                other = draw.choice([area, draw.choice(self._areas)])
                earlier = draw.choice(draw.choice([c for c in other.concepts if c.requests]).requests).turns
                before += [*earlier, Turn("assistant", draw.choice(_REPLIES))]
            turns = (*before[-6:], *turns)
        if self._augment and draw.random() < 0.2:
            turns = (*turns[:-1], Turn("user", misspelt(turns[-1].content, draw)))
        return Conversation(turns)

    def _wording(self, concept: Concept) -> Policy:
        return self._styled(self._random.choice(concept.wordings))

    def _styled(self, policy: Policy) -> Policy:
        return restyled(policy, self._random) if self._augment else policy
