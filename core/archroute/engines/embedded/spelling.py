"""Mending typing errors before the encoder reads them: a word it does not know falls into pieces that mean nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LEAST, _MOST = 3, 20  # letters of a word that is mended
_TWICE = 5  # letters from which two slips are mended
_COMMON = {3: 1000, 4: 12_000}  # how common a word must be for one of so few letters to be taken for it
_END = 2  # letters at the beginning or the end of a word, one of which two slips leave as it is
# A plain word: no part of an identifier, a path, a number or an address, and no name (a capital within a sentence).
_WORD = re.compile(
    rf"(?<![\w./\\@#$<>{{}}\-])(?:(?<=^)[A-Z])?[a-z]{{{_LEAST - 1},{_MOST}}}(?![\w/\\@(){{}}<>=_]|[.:]\w)"
)


class Speller:
    """Replaces unknown words by the commonest known one that is a slip away, or two where the word is long.

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
        bar = _COMMON.get(len(lower), len(self._rank))
        near = (other for other in _one_slip_away(lower) if self._rank.get(other, bar) < bar and len(other) >= _LEAST)
        best = min(near, default=None, key=self._rank.__getitem__)
        if best is None and len(lower) >= _TWICE:
            near = (other for other in self._alike(lower) if _two_slips_at_most(lower, other))
            best = min(near, default=None, key=self._rank.__getitem__)
        return best or word

    @cached_property
    def _by_end(self) -> dict[str, list[tuple[str, int, int]]]:
        """Words of some length by how they begin (`abc-`) and end (`-xyz`), each with its length and its letters as bits."""
        found: dict[str, list[tuple[str, int, int]]] = {}
        for word in self._rank:
            if len(word) >= _TWICE - 1:
                entry = (word, len(word), _letters(word))
                found.setdefault(f"{word[:_END]}-", []).append(entry)
                found.setdefault(f"-{word[-_END:]}", []).append(entry)
        return found

    def _alike(self, word: str) -> Iterator[str]:
        """Words that may be two slips away: each slip changes two letters of the set at most."""
        letters, size = _letters(word), len(word)
        for end in (f"{word[:_END]}-", f"-{word[-_END:]}"):
            for other, other_size, other_letters in self._by_end.get(end, ()):
                if abs(size - other_size) <= 2 and (letters ^ other_letters).bit_count() <= 4:
                    yield other


def _letters(word: str) -> int:
    return sum({1 << (ord(letter) & 31) for letter in word})


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


def _two_slips_at_most(one: str, other: str) -> bool:
    """Whether two slips or fewer, none of them within another, turn one word into the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > 2:
            return False
    return row[-1] <= 2
