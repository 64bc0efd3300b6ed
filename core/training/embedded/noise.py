"""Variations of texts that change nothing of their meaning: other spellings of names, typing errors."""

from __future__ import annotations

import random
import re

from archroute.conversation import Conversation, Turn
from archroute.engines.embedded.spelling import BESIDE
from archroute.policy import OTHER, Policy


def misspelt(text: str, draw: random.Random, rate: float = 0.1) -> str:
    """`text` with about `rate` typing errors a letter: a letter left out, doubled, swapped with the next, or its neighbour's."""
    letters = list(text)
    place = 0
    while place < len(letters):
        if letters[place].isalpha() and draw.random() < rate:
            kind = draw.randrange(4)
            if kind == 0:
                letters[place] = ""
            elif kind == 1:
                letters[place] *= 2
            elif kind == 2 and place + 1 < len(letters):
                letters[place], letters[place + 1] = letters[place + 1], letters[place]
                place += 1
            else:
                near = BESIDE.get(letters[place].lower())
                letters[place] = draw.choice(near) if near else letters[place]
        place += 1
    return "".join(letters) or text


def hurried(conversation: Conversation, draw: random.Random, rate: float = 0.1) -> Conversation:
    """The conversation with the last turn misspelt."""
    *before, last = conversation.turns
    return Conversation((*before, Turn("user", misspelt(last.content, draw, rate))))


def restyled(policy: Policy, draw: random.Random) -> Policy:
    """The policy with its name written another way, or at times as a name that says nothing."""
    words = [word for word in re.split(r"[\s_\-]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", policy.name)) if word]
    choice = draw.random()
    if choice < 0.6 or not words:
        return policy
    if choice < 0.7:
        name = "-".join(words)
    elif choice < 0.78:
        name = words[0].lower() + "".join(word.capitalize() for word in words[1:])
    elif choice < 0.86:
        name = " ".join(words)
    else:
        name = f"{draw.choice(('route', 'policy', 'intent', 'agent', 'model', 'r', 'tier'))}_{draw.randrange(1, 100)}"
    return policy if name.lower() == OTHER else Policy(name, policy.description)
