"""The words that the embedded model's speller knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer

from archroute.engines.embedded.text import policy_text
from training.embedded.sources import Area

_WORD = re.compile(r"[a-z]{2,}")
_OFTEN = 2  # what is written once may be a typing error


def known_words(areas: Sequence[Area], tokenizer: Tokenizer) -> list[str]:
    """The words of the areas, the commonest first, then those of the tokenizer, in its order."""
    counts: Counter[str] = Counter()
    for area in areas:
        for concept in area.concepts:
            for policy in concept.wordings:  # free of typing errors
                words = _WORD.findall(policy_text(policy).lower())
                stems = [
                    word.removesuffix(ending) for word in words for ending in ("ing", "s") if word.endswith(ending)
                ]
                counts.update(dict.fromkeys([*words, *stems], _OFTEN))
            for conversation in concept.requests:
                counts.update(word for turn in conversation.turns for word in _WORD.findall(turn.content.lower()))
    found = [word for word, count in counts.most_common() if count >= _OFTEN]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return list(dict.fromkeys([*found, *(word for word, _ in vocabulary if _WORD.fullmatch(word))]))
