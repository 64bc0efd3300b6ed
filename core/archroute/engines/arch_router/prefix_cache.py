"""Keys and values of prompts read before, so that a prompt's known beginning is not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archroute.engines.base import CacheStats


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of consecutive tokens, `[layers, kv heads, tokens, head size]` each. Never written to."""

    keys: Tensor
    values: Tensor

    def __len__(self) -> int:
        return self.keys.shape[2]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.keys.nbytes + self.values.nbytes

    def first(self, tokens: int) -> KeyValues:
        """Those of the first tokens, as a view."""
        return KeyValues(self.keys[:, :, :tokens], self.values[:, :, :tokens])

    def alone(self) -> KeyValues:
        """The same without the rest of what they are a view of, which a view would keep in memory."""
        return KeyValues(self.keys.contiguous(), self.values.contiguous())

    @classmethod
    def joined(cls, pieces: Sequence[KeyValues]) -> KeyValues:
        """Pieces, one after the other."""
        if len(pieces) == 1:
            return pieces[0]
        keys, values = [piece.keys for piece in pieces], [piece.values for piece in pieces]
        return cls(torch.cat(keys, dim=2), torch.cat(values, dim=2))


class PrefixCache:
    """Token sequences read before, with their keys and values; the least recently used go first.

    A sequence belongs to a scope: what stood before it in the prompt. Sequences of different scopes never mix.

    Safe under threads: what it hands out is never written to, so an entry that is dropped lives on while it is used.

    Args:
        budget: How many bytes may be held; 0 holds nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: OrderedDict[tuple[Hashable, tuple[int, ...]], KeyValues] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = self._saved = self._bytes = 0

    def longest(self, scope: Hashable, tokens: Sequence[int]) -> KeyValues | None:
        """Keys and values of the longest beginning of `tokens` that was read in this scope, as a view."""
        tokens = tuple(tokens)
        with self._lock:
            best, length = None, 0
            for key in self._entries:
                common = common_prefix(key[1], tokens) if key[0] == scope else 0
                if common > length:
                    best, length = key, common
            if best is None:
                self._misses += 1
                return None
            self._entries.move_to_end(best)
            self._hits += 1
            self._saved += length
            return self._entries[best].first(length)

    def add(self, scope: Hashable, tokens: Sequence[int], read: KeyValues) -> None:
        """Remember `read`, those of `tokens`; what is known of a mere beginning of `tokens` is dropped for it."""
        tokens = tuple(tokens)
        if read.size > self.budget:
            return
        with self._lock:
            for key in [key for key in self._entries if key[0] == scope and tokens[: len(key[1])] == key[1]]:
                self._bytes -= self._entries.pop(key).size
            self._entries[scope, tokens] = read
            self._bytes += read.size
            while self._bytes > self.budget:
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= dropped.size

    def clear(self) -> None:
        """Forget everything; the counters go on."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def stats(self) -> CacheStats:
        """The counters."""
        with self._lock:
            return CacheStats(self._hits, self._misses, self._saved, self._bytes, len(self._entries))


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    low, high = 0, length  # the first `low` are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
