"""What the embedded model reads: how policies and conversations become tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from tokenizers import Tokenizer

from archroute.conversation import Conversation
from archroute.engines.embedded.spelling import Speller
from archroute.policy import Policy

POLICY_TOKENS = 96
LAST_TOKENS = 128
EARLIER_TOKENS = 88
EARLIER_TURN = {"user": 32, "assistant": 24}
"""What a policy, the last user turn, the turns before it, and one of them may have, in tokens; the middle of what is longer is left out."""

_CHARACTERS = 24  # a token has fewer, so what is longer is cut before it is tokenised
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_JOINTS = re.compile(r"[\s_\-./:]+")


class Encoded(NamedTuple):
    """Tokens of one text, and whether some were left out."""

    tokens: list[int]
    kinds: list[int]
    truncated: bool


def policy_text(policy: Policy) -> str:
    """A policy in words: an identifier such as `bug_fixing` or `bugFixing` is taken apart."""
    words = _JOINTS.sub(" ", _CAMEL.sub(" ", policy.name)).strip()
    return f"{words or policy.name}: {policy.description}"


class Reader:
    """Turns texts into tokens.

    Args:
        tokenizer: BERT's WordPiece tokenizer.
        speller: Mends typing errors in conversations; None: they stay.
    """

    def __init__(self, tokenizer: Tokenizer, speller: Speller | None = None) -> None:
        self._speller = speller
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._begin, self._end = tokenizer.encode("").ids  # [CLS] and [SEP]
        self._marks = {role: tokenizer.encode(role, add_special_tokens=False).ids[0] for role in EARLIER_TURN}

    def policy(self, policy: Policy) -> Encoded:
        """A policy, as `name: description`."""
        tokens, truncated = self._cut(policy_text(policy), POLICY_TOKENS)
        tokens = [self._begin, *tokens, self._end]
        return Encoded(tokens, [0] * len(tokens), truncated)

    def conversation(self, conversation: Conversation) -> Encoded:
        """The last user turn, then as marked context what came before it, nearest first, each turn after its role."""
        turns = conversation.turns
        last = max(number for number, turn in enumerate(turns) if turn.role == "user")
        tokens, truncated = self._cut(turns[last].content, LAST_TOKENS, mend=True)
        tokens = [self._begin, *tokens, self._end]
        kinds = [0] * len(tokens)
        room = EARLIER_TOKENS
        for turn in reversed(turns[:last]):
            mark = self._marks[turn.role]
            earlier, cut = self._cut(turn.content, min(EARLIER_TURN[turn.role], room - 2), mend=turn.role == "user")
            tokens += [mark, *earlier, self._end]
            kinds += [1] * (len(earlier) + 2)
            room -= len(earlier) + 2
            truncated |= cut
            if room < 8:  # fewer tokens say nothing
                truncated |= turn is not turns[0]
                break
        return Encoded(tokens, kinds, truncated or conversation.truncated)

    def _cut(self, text: str, limit: int, *, mend: bool = False) -> tuple[list[int], bool]:
        long = len(text) > limit * _CHARACTERS
        if long:
            half = limit * _CHARACTERS // 2
            text = f"{text[:half]} {text[-half:]}"
        if mend and self._speller:
            text = self._speller.mended(text)
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(tokens) <= limit:
            return tokens, long
        return tokens[: (limit + 1) // 2] + tokens[len(tokens) - limit // 2 :], True
