"""The words that the embedded model's speller knows."""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from archroute.engines.embedded.text import policy_text
from training.embedded.sources import Area

JARGON = Path(__file__).parent / "jargon.txt"
"""Words of trades that no list of English has, so that they stay as they are."""

_WORD = re.compile(r"[a-z]{2,}")
_WHOLE = 6  # letters from which what the tokenizer knows as one piece is taken for a word
_OFTEN = 2  # what is written once may be a typing error
_COMMON = 40_000  # words of the list of English
_BONUS = 1.5  # how much commoner, in powers of e, a word that is met in the areas counts for


def known_words(areas: Sequence[Area], tokenizer: Tokenizer) -> list[str]:
    """The commonest words of English and those of the areas, the commonest first, then the rest of the tokenizer's."""
    listed = _english()
    counts: Counter[str] = Counter()
    for area in areas:
        for concept in area.concepts:
            for policy in concept.wordings:  # free of typing errors
                words = _WORD.findall(policy_text(policy).lower())
                stems = [word.removesuffix(ending) for word in words for ending in ("ing", "s")]
                counts.update(dict.fromkeys([*words, *(stem for stem in stems if stem in listed)], _OFTEN))
            for conversation in concept.requests:
                counts.update(word for turn in conversation.turns for word in _WORD.findall(turn.content.lower()))
    english = dict(list(listed.items())[:_COMMON])
    rare = min(english.values())
    scores = {word: math.log(count) for word, count in english.items()}
    for word, count in counts.items():
        if count >= _OFTEN:
            scores[word] = scores.get(word, math.log(rare)) + _BONUS + math.log(count)
    found = sorted(scores, key=lambda word: -scores[word])
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    rest = [word for word, _ in vocabulary if _WORD.fullmatch(word) and len(word) >= _WHOLE]
    jargon = JARGON.read_text(encoding="utf-8").split()
    return list(dict.fromkeys([*found, *rest, *jargon]))


def _english() -> dict[str, int]:
    """English words and how often books have them, the commonest first."""
    found = importlib.util.find_spec("symspellpy")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps symspellpy: it holds a list of English words with their frequencies")
    text = (Path(found.origin).parent / "frequency_dictionary_en_82_765.txt").read_text(encoding="utf-8-sig")
    entries = (line.split() for line in text.splitlines())
    return {word: int(count) for word, count in entries if _WORD.fullmatch(word)}
