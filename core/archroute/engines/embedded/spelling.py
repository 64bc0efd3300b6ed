"""Mending typing errors before the encoder reads them: a word it does not know falls into pieces that mean nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LEAST, _MOST = 4, 20  # letters of a word that is mended
# A plain word: no part of an identifier, a path, a number or an address, and no name (a capital within a sentence).
_WORD = re.compile(
    rf"(?<![\w./\\@#$<>{{}}\-])(?:(?<=^)[A-Z])?[a-z]{{{_LEAST - 1},{_MOST}}}(?![\w/\\@(){{}}<>=_]|[.:]\w)"
)


class Speller:
    """Replaces unknown words by the commonest known one that is a single slip away.

    A slip is a letter too many, too few or wrong, or two letters swapped.

    Args:
        words: Known words, lower case, the commonest first.

    Example:
        >>> Speller(["translate", "this"]).mended("tranlsate thsi please")
        'translate this please'
    """

    def __init__(self, words: Iterable[str]) -> None:
        rank: dict[str, int] = {}
        for word in words:
            rank.setdefault(word, len(rank))
        self._rank: Mapping[str, int] = rank
        self._word = lru_cache(maxsize=8192)(self._of_word)

    def mended(self, text: str) -> str:
        """The text with its slips mended; known words, names, code and numbers stay."""
        return _WORD.sub(lambda match: self._word(match.group()), text)

    def _of_word(self, word: str) -> str:
        lower = word.lower()
        if len(lower) < _LEAST or lower in self._rank:
            return word
        best = min(
            (near for near in _one_slip_away(lower) if near in self._rank), key=self._rank.__getitem__, default=None
        )
        return best or word


def _one_slip_away(word: str) -> Iterator[str]:
    for place in range(len(word) + 1):
        head, tail = word[:place], word[place:]
        if tail:
            yield head + tail[1:]
            for letter in _LETTERS:
                yield head + letter + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in _LETTERS:
            yield head + letter + tail
