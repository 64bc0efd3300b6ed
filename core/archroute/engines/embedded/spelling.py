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
_SLIP, _KEY, _OTHER_KEY, _STRAY = 3.0, 0.7, 3.0, 2.5
"""How unlikely a slip is, as minus a natural logarithm; and how much more so if a letter was taken for its neighbour on the keyboard, or
for another, or if one was added that does not double the one before."""

_FARTHEST = 10.0
"""What is less likely is another word."""

_NAME = 4.0
"""What is less likely than one slip that fingers make is a name, where a word within a sentence has a capital."""

_DOUBT = 2.0
"""How much likelier than a known word a far commoner one must be to be what was meant; one of three letters (`aws`, `otp`) stays."""

_FLAT = 30  # frequencies fall with the rank, but the commonest words are about as common as one another
# A plain word, or one that may be a name: a capital within a sentence, at times with a slip of its own, as in "WWhat" and "hWat".
# No part of an identifier, a path, a number or an address.
_WORD = re.compile(
    r"(?<![\w./\\@#$<>{}\-])"
    rf"(?:(?:(?:(?<=^)|(?<=[.!?] ))[A-Z])?[a-z]{{{_LEAST - 1},{_MOST}}}"
    rf"|(?P<name>(?:[A-Z]{{1,2}}|[a-z][A-Z])[a-z]{{{_TWICE - 2},{_MOST}}}))"
    r"(?![\w/\\@(){}<>=_]|[.:]\w)"
)


class Speller:
    """Replaces unknown words by the likeliest known one that is a slip away, or a few where the word is long.

    So is a known word that is rare where a far commoner one is a slip away; a capital within a sentence has to be nearer. A slip is a
    letter too many, too few or wrong, or two letters swapped. A word is the likelier the commoner it is, and the commoner the slips are
    that lead from it to what was typed (Kernighan, Church and Gale 1990).

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
        """The text with its slips mended; code, numbers, and names that are no word's slip, stay."""
        return _WORD.sub(lambda match: self._word(match.group(), is_name=bool(match["name"])), text)

    def _of_word(self, word: str, *, is_name: bool) -> str:
        lower = word.lower()
        if len(lower) < (_TWICE if is_name else _LEAST):
            return word
        known = lower in self._rank
        best, least = word, math.inf
        if known:
            least = self._rarity(lower) - _DOUBT
            if is_name or len(lower) == _LEAST or least <= math.log(_FLAT) + _SLIP:
                return word  # a name, too short to tell, or no other is common enough
        near = self._slip_away(lower) if known or len(lower) < _TWICE else self._slips_away(lower)
        farthest = _NAME if is_name else _FARTHEST
        for other in sorted(set(near), key=self._rank.__getitem__):
            rarity = self._rarity(other)
            if rarity + _SLIP >= least:
                break  # what follows is rarer still
            unlikely = rarity + _unlikelihood(lower, other, min(farthest, least - rarity))
            if unlikely < least:
                best, least = other, unlikely
        return best

    def _rarity(self, word: str) -> float:
        return math.log(self._rank[word] + _FLAT)

    @cached_property
    def _by_letters(self) -> dict[int, list[str]]:
        """Words of some length by the set of their letters."""
        found: dict[int, list[str]] = {}
        for word in self._rank:
            if len(word) >= _TWICE - 1:
                found.setdefault(_letters(word), []).append(word)
        return found

    def _slip_away(self, word: str) -> Iterator[str]:
        """Known words a slip away; where `word` has few letters, those that are common enough."""
        bar = _COMMON.get(len(word), len(self._rank))
        return (other for other in _one_slip_away(word) if self._rank.get(other, bar) < bar and len(other) >= _LEAST)

    def _slips_away(self, word: str) -> Iterator[str]:
        """The same, and those two slips away that fingers make, or more that swap or double letters."""
        yield from self._slip_away(word)
        for letters in _before_slips(_letters(word)):
            for other in self._by_letters.get(letters, ()):
                if abs(len(word) - len(other)) <= 2:
                    yield other


def _letters(word: str) -> int:
    """The set of a word's letters, as bits."""
    return sum({1 << (ord(letter) & 31) for letter in word})


_EACH = tuple(map(_letters, _LETTERS))
_TAKEN_FOR = tuple((_letters(other), _letters(key)) for key, others in BESIDE.items() for other in others)


def _before_slips(letters: int) -> set[int]:
    """The sets of letters that two slips may have made `letters` of; to swap and to double changes none."""
    once = _before_slip(letters)
    return once.union(*map(_before_slip, once))


def _before_slip(letters: int) -> set[int]:
    """The same for one: a letter was left out, or taken for its neighbour."""
    left_out = {letters | letter for letter in _EACH}  # one that the word still has, too
    return left_out | {letters & ~typed | meant for typed, meant in _TAKEN_FOR if letters & typed}


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
