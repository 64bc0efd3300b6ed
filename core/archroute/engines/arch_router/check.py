"""Whether decisions with int8 activations are the same as with full ones, on the checkpoint at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from archroute.conversation import Conversation, Turn
from archroute.engines.arch_router.checkpoint import FAST_CHECK
from archroute.engines.arch_router.engine import ArchRouterEngine
from archroute.engines.linear import packed_levels
from archroute.policy import Policy

ENOUGH = 0.99
"""The share of decisions that must be the same for fast ones to be taken by default."""

REQUESTS = {
    Policy("code_generation", "Writing new functions, scripts or boilerplate code"): (
        "write a bash script that renames all my photos by date",
        "I need a React hook that debounces a value",
        "give me a rust struct for a ring buffer",
        "python function to merge overlapping intervals pls",
    ),
    Policy("bug_fixing", "Finding and repairing errors in existing code"): (
        "KeyError: 'user_id' in line 40, why?",
        "my loop never ends, what's wrong with it",
        "the build fails since I upgraded webpack",
        "this test is flaky, help me make it stable",
    ),
    Policy("code_explanation", "Explaining what existing code does"): (
        "what does this regex match: ^a(b|c)+$",
        "walk me through this decorator step by step",
        "why would anyone use a monad here?",
        "explain the difference between these two queries",
    ),
    Policy("image_editing", "Changing or retouching an existing picture"): (
        "remove the power lines from this photo",
        "make the sky more dramatic",
        "crop it square and add a white frame",
        "can you blur the faces in the background",
    ),
    Policy("image_creation", "Drawing new pictures from a description"): (
        "a watercolour fox reading a newspaper",
        "design a logo for my bakery",
        "draw the floor plan of a tiny house",
        "paint me a sunset over Mars",
    ),
    Policy("summarisation", "Condensing texts into their main points"): (
        "tl;dr of this thread",
        "what are the key takeaways of the report?",
        "boil this article down to three sentences",
        "give me the minutes of this meeting",
    ),
    Policy("translation", "Translating between languages"): (
        "how do you say thank you in Finnish",
        "put this paragraph into Spanish",
        "what does 'Weltschmerz' mean in English",
        "traduis cette phrase en anglais",
    ),
    Policy("email_writing", "Drafting and answering e-mails"): (
        "politely decline the invitation for Friday",
        "write a follow-up to the recruiter",
        "answer my landlord that the heating still doesn't work",
        "a short note to the team about the release",
    ),
    Policy("travel_planning", "Planning trips, flights and hotels"): (
        "three days in Lisbon with kids, what should we see",
        "cheapest way from Oslo to Rome in May",
        "find a quiet hotel near the station",
        "do I need a visa for Vietnam?",
    ),
    Policy("tax_questions", "Tax law, deductions and returns"): (
        "can I deduct my home office",
        "when is the VAT return due",
        "how are stock options taxed",
        "which form do I need for freelance income",
    ),
    Policy("legal_review", "Reading and assessing contracts and legal texts"): (
        "is this non-compete clause enforceable?",
        "check the lease for hidden fees",
        "what does clause 7 oblige me to do",
        "compare these two NDAs",
    ),
    Policy("recipes", "Cooking, baking and ingredients"): (
        "what can I make with leeks and eggs",
        "how long do I boil a soft egg",
        "vegan substitute for butter in biscuits",
        "a three course dinner for six",
    ),
    Policy("maths", "Calculations, proofs and equations"): (
        "solve x^2 - 5x + 6 = 0",
        "prove that the square root of two is irrational",
        "what's 17% of 2,340",
        "integrate x times e to the x",
    ),
    Policy("data_analysis", "Statistics, charts and tables of data"): (
        "plot monthly revenue from this csv",
        "is the difference between the groups significant?",
        "find outliers in column B",
        "which region grew fastest last year",
    ),
    Policy("health_advice", "Symptoms, medication and fitness"): (
        "my knee hurts after running",
        "can I take ibuprofen with this",
        "a stretching routine for desk workers",
        "how much sleep does a teenager need",
    ),
    Policy("shopping", "Finding and comparing products"): (
        "best noise cancelling headphones under 200",
        "compare these two vacuum cleaners",
        "a gift for a ten year old who loves space",
        "is this laptop worth the price",
    ),
    Policy("calendar", "Meetings, reminders and schedules"): (
        "move my 3pm to tomorrow",
        "remind me to water the plants on Sunday",
        "when are we all free next week",
        "cancel the dentist",
    ),
    Policy("account_support", "Passwords, billing and subscriptions"): (
        "I was charged twice this month",
        "reset my password please",
        "how do I cancel my plan",
        "the invoice has the wrong address",
    ),
    Policy("creative_writing", "Stories, poems and lyrics"): (
        "a bedtime story about a shy dragon",
        "a haiku on autumn rain",
        "continue this chapter in the same voice",
        "lyrics for a song about leaving home",
    ),
    Policy("web_search", "Looking up current facts and news"): (
        "who won the match last night",
        "latest news on the rail strike",
        "what's the weather in Kyoto right now",
        "current price of copper",
    ),
}
"""Policies of the kinds people route by, and requests for each."""

_OFFERED = 10  # policies a conversation has to choose from
_IDLE = ("hello", "thanks, that was all", "asdf", "you're funny", "ok", "good night")
_CHANGES = 14  # conversations that change their topic


@dataclass(frozen=True)
class FastCheck:
    """How fast decisions compare with exact ones.

    Attributes:
        cases: How many conversations were decided both ways.
        same: The share of them with the same route.
        distance: The mean total-variation distance of the probabilities, from 0 to 1.
        safe: Whether `same` is enough for fast to be the default.
        levels: Of fast decisions' activations, on either side of zero; None: they were not rounded.
    """

    cases: int
    same: float
    distance: float
    safe: bool
    levels: int | None


def compare(engine: ArchRouterEngine, advance: Callable[[int, int], None] | None = None) -> FastCheck:
    """Decide a built-in set of conversations both ways.

    Args:
        engine: Whose checkpoint to check; its own setting is left as it was.
        advance: Told how many of how many conversations are decided.
    """
    setting, same, distance = engine.fast, 0, 0.0
    cases = _cases()
    try:
        for number, (policies, conversation) in enumerate(cases):
            found = []
            for fast in (False, True):
                engine.fast = fast
                engine.forget()  # what one way has read must not serve the other
                found.append(engine.score(policies, [conversation])[0].probabilities)
            same += max(found[0], key=found[0].__getitem__) == max(found[1], key=found[1].__getitem__)
            distance += sum(abs(found[0][name] - found[1][name]) for name in found[0]) / 2
            if advance:
                advance(number + 1, len(cases))
    finally:
        engine.fast = setting
        engine.forget()
    share = same / len(cases)
    return FastCheck(len(cases), share, distance / len(cases), share >= ENOUGH, packed_levels())


def compare_and_keep(directory: Path, advance: Callable[[int, int], None] | None = None) -> FastCheck:
    """Compare on the prepared model in `directory`, and keep the outcome beside it for later loads."""
    outcome = compare(ArchRouterEngine.from_directory(directory, compute="fast"), advance)
    (directory / FAST_CHECK).write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
    return outcome


def _cases() -> list[tuple[list[Policy], Conversation]]:
    """A hundred conversations: one request of each kind, small talk, and requests after another topic."""
    policies = list(REQUESTS)
    flat = [(place, text) for place, texts in enumerate(REQUESTS.values()) for text in texts]
    cases = [(_offered(policies, place), Conversation.from_text(text)) for place, text in flat]
    cases += [(_offered(policies, place), Conversation.from_text(text)) for place, text in enumerate(_IDLE)]
    for number in range(_CHANGES):
        (_, before), (place, now) = flat[(number * 29 + 3) % len(flat)], flat[(number * 17) % len(flat)]
        turns = (Turn("user", before), Turn("assistant", "Done. Anything else?"), Turn("user", now))
        cases.append((_offered(policies, place), Conversation(turns)))
    return cases


def _offered(policies: list[Policy], place: int) -> list[Policy]:
    """Ten policies, the one at `place` among them unless its number says that it be absent."""
    start = place - (place * 7) % _OFFERED if place % 9 else place + 1
    return [policies[(start + step) % len(policies)] for step in range(_OFFERED)]
