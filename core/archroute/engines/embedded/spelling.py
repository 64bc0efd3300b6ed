"""Mending typing errors before the encoder reads them: a word it does not know falls into pieces that mean nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache

BESIDE = {
    "a": "sqz", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl",
    "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb",
    "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
"""The keys beside each letter's."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LEAST, _MOST = 3, 20  # letters of a word that is mended
_TWICE = 5  # letters from which more than one slip is mended
_COMMON = {3: 1000, 4: 12_000}  # how common a word must be for one of so few letters to be taken for it
_END = 2  # letters at the beginning or the end of a word, one of which two slips leave as it is
_SLIP, _KEY, _OTHER_KEY, _STRAY = 3.0, 0.7, 3.0, 2.5
"""How unlikely a slip is, as minus a natural logarithm; and how much more so if a letter was taken for its neighbour on the keyboard, or
for another, or if one was added that does not double the one before."""

_FARTHEST = 10.0
"""What is less likely is another word."""

_FLAT = 30  # frequencies fall with the rank, but the commonest words are about as common as one another
# A plain word: no part of an identifier, a path, a number or an address, and no name (a capital within a sentence).
_WORD = re.compile(
    rf"(?<![\w./\\@#$<>{{}}\-])(?:(?:(?<=^)|(?<=[.!?] ))[A-Z])?[a-z]{{{_LEAST - 1},{_MOST}}}(?![\w/\\@(){{}}<>=_]|[.:]\w)"
)


class Speller:
    """Replaces unknown words by the likeliest known one that is a slip away, or a few where the word is long.

    A slip is a letter too many, too few or wrong, or two letters swapped. A word is the likelier the commoner it is, and the commoner the
    slips are that lead from it to what was typed (Kernighan, Church and Gale 1990).

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
        near = self._alike(lower) if len(lower) >= _TWICE else self._common(lower)
        best, least = word, math.inf
        for other in sorted(set(near), key=self._rank.__getitem__):
            rarity = math.log(self._rank[other] + _FLAT)
            if rarity + _SLIP >= least:
                break  # what follows is rarer still
            unlikely = rarity + _unlikelihood(lower, other, min(_FARTHEST, least - rarity))
            if unlikely < least:
                best, least = other, unlikely
        return best

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

    def _common(self, word: str) -> Iterator[str]:
        """Words a slip away that are common enough for one of so few letters."""
        bar = _COMMON[len(word)]
        return (other for other in _one_slip_away(word) if self._rank.get(other, bar) < bar and len(other) >= _LEAST)

    def _alike(self, word: str) -> Iterator[str]:
        """All words a slip away and those that may be two, or more that swap or double: each changes two letters of the set at most."""
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


def _unlikelihood(typed: str, word: str, most: float) -> float:
    """How unlikely the slips are that lead from `word` to `typed`, none of them within another; infinite from `most` on."""
    older: list[float] = []
    before = [_SLIP * place for place in range(len(word) + 1)]
    for i, letter in enumerate(typed):
        added = _SLIP if i and typed[i - 1] == letter else _SLIP + _STRAY
        row = [before[0] + added]
        for j, wanted in enumerate(word):
            wrong = 0.0 if letter == wanted else _SLIP + (_KEY if letter in BESIDE.get(wanted, "") else _OTHER_KEY)
            least = min(before[j] + wrong, before[j + 1] + added, row[j] + _SLIP)
            if i and j and letter == word[j - 1] and typed[i - 1] == wanted:
                least = min(least, older[j - 1] + _SLIP)
            row.append(least)
        if min(row) >= most and min(before) >= most:
            return math.inf
        older, before = before, row
    return before[-1] if before[-1] < most else math.inf
