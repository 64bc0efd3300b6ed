"""How conversations are compared with policies, once both are read: similarity as a whole and word by word, and "none of them"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from archroute.engines.embedded.text import Encoded

WORD_SIZE = 128
SIMILARITIES = 5
NULL_FEATURES = 6 + SIMILARITIES
"""The size of a word's vector, the kinds of similarity, and how many numbers on them the decision for "none of them" sees."""

_SHOWN = 3  # the best scores that it sees one by one


class Embedding(NamedTuple):
    """A text as it is compared.

    Attributes:
        vector: Of the text itself, of length 1: [hidden].
        whole: Of the text with what came before it, each of whose tokens counts as much as it bears on the text, of length 1: [hidden].
        words: Of each token, first the text's own, of length 1, then those before it, as long as they count: [tokens, WORD_SIZE].
        weights: What each of the text's own tokens counts, summing to 1: where the text is a policy, and where it is a turn. [own, 2].
    """

    vector: Tensor
    whole: Tensor
    words: Tensor
    weights: Tensor


class Offer(NamedTuple):
    """Policies side by side, so that a conversation is compared with all at once.

    Attributes:
        vectors: [policies, hidden].
        words: Those of shorter policies padded: [policies, tokens, WORD_SIZE].
        weights: 0 where there is no word: [policies, tokens].
        is_word: [policies, tokens].
    """

    vectors: Tensor
    words: Tensor
    weights: Tensor
    is_word: Tensor

    @classmethod
    def of(cls, policies: Sequence[Embedding]) -> Offer:
        """The policies, in their order."""
        words, is_word = _padded([text.words for text in policies])
        weights = pad_sequence([text.weights[:, 0] for text in policies], batch_first=True)
        return cls(torch.stack([text.vector for text in policies]), words, weights, is_word)


class Similarities(NamedTuple):
    """Conversations against policies.

    Attributes:
        parts: Every kind of similarity: [conversations, policies, SIMILARITIES].
        score: Their weighted sum: [conversations, policies].
        asked: The turns' vectors: [conversations, hidden].
        whole: The conversations' vectors: [conversations, hidden].
        offered: The policies' vectors: [policies, hidden].
    """

    parts: Tensor
    score: Tensor
    asked: Tensor
    whole: Tensor
    offered: Tensor

    def among(self, conversations: Tensor, policies: Tensor) -> Similarities:
        """Those of some conversations and some policies, by their places."""
        parts, score = self.parts[conversations][:, policies], self.score[conversations][:, policies]
        return Similarities(parts, score, self.asked[conversations], self.whole[conversations], self.offered[policies])


class Comparison:
    """Scores policies against conversations.

    A policy's score is a weighted sum: the cosines of the policy with the turn and with the whole conversation; how well the turn
    covers the policy's words (each word's nearest one in the turn counts), the other way round, and how well the whole conversation
    covers them. A learned gate says of each earlier token how much it counts. "None of them" is decided against the policies at hand:
    its score comes from how the best ones stand out, and from what the conversation and the best policy have in common.

    Args:
        tensors: The checkpoint's `head.*`.
        dropout: The share of the numbers on "none of them" that is left out at random, in training.
    """

    def __init__(self, tensors: Mapping[str, Tensor], dropout: float = 0.0) -> None:
        self._tensors = tensors
        self._dropout = dropout
        self._of_tokens = torch.cat([tensors[f"head.{name}.weight"] for name in ("words", "weights", "gate")])

    def embedding(self, hidden: Tensor, text: Encoded) -> Embedding:
        """What is compared of a text with token vectors `hidden [tokens, hidden]`."""
        return self.embeddings([hidden], [text])[0]

    def embeddings(self, read: Sequence[Tensor], texts: Sequence[Encoded]) -> list[Embedding]:
        """`embedding` of several texts."""
        rows = read[0] if len(read) == 1 else torch.cat(list(read))
        sizes = [len(hidden) for hidden in read]
        words, weights, gates = functional.linear(rows, self._of_tokens).split_with_sizes([WORD_SIZE, 2, 1], dim=1)
        words = functional.normalize(words, dim=-1)
        gates = (gates + self._tensors["head.gate.bias"]).sigmoid()  # [tokens, 1]
        if len(read) == 1:
            return [_embedding(rows, texts[0], words, weights, gates)]
        parts = (part.split_with_sizes(sizes) for part in (words, weights, gates))
        return list(map(_embedding, read, texts, *parts))

    def similarities(self, conversations: Sequence[Embedding], policies: Sequence[Embedding] | Offer) -> Similarities:
        """All of all."""
        offer = policies if isinstance(policies, Offer) else Offer.of(policies)
        asked, whole = (torch.stack([text[place] for text in conversations]) for place in (0, 1))
        words = _word_by_word(conversations, offer)
        parts = torch.stack([asked @ offer.vectors.T, whole @ offer.vectors.T, *words], dim=-1)
        return Similarities(parts, parts @ self._tensors["head.mix"], asked, whole, offer.vectors)

    def decided(self, found: Similarities) -> Tensor:
        """The scores of all policies and, last, of none of them: [conversations, policies + 1]."""
        score, count = found.score, found.score.shape[1]
        best = score.argmax(dim=1)
        shown = score.topk(min(_SHOWN, count), dim=1).values
        features = [
            functional.pad(shown, (0, _SHOWN - shown.shape[1]), value=-1.0),
            score.mean(dim=1, keepdim=True),
            score.std(dim=1, keepdim=True, unbiased=False),
            torch.full_like(shown[:, :1], float(count)).log(),
            found.parts[torch.arange(len(best)), best],
        ]
        # The products of two unit vectors are small numbers: 10 brings them near 1.
        content = torch.cat([found.asked, 10 * found.whole * found.offered[best]], dim=1)
        if self._dropout:
            content = functional.dropout(content, self._dropout)
        hidden = functional.gelu(self._linear("null.0", torch.cat([*features, content], dim=1)))
        null = self._linear("null.1", hidden)
        return torch.cat([score, null], dim=1) * self._tensors["head.scale"].exp()

    def logits(self, conversations: Sequence[Embedding], policies: Sequence[Embedding] | Offer) -> Tensor:
        """As `decided`, of all of all."""
        return self.decided(self.similarities(conversations, policies))

    def _linear(self, name: str, x: Tensor, *, bias: bool = True) -> Tensor:
        shift = self._tensors[f"head.{name}.bias"] if bias else None
        return functional.linear(x, self._tensors[f"head.{name}.weight"], shift)


def _embedding(hidden: Tensor, text: Encoded, words: Tensor, weights: Tensor, gates: Tensor) -> Embedding:
    count = text.kinds.count(0)
    weights = weights[:count].softmax(dim=0)
    total = hidden[:count].sum(dim=0)
    vector = functional.normalize(total, dim=-1)
    if count == len(hidden):
        return Embedding(vector, vector, words, weights)
    before = gates[count:]
    whole = functional.normalize(total + (before * hidden[count:]).sum(dim=0), dim=-1)
    return Embedding(vector, whole, torch.cat([words[:count], before * words[count:]]), weights)


def _word_by_word(conversations: Sequence[Embedding], offer: Offer) -> tuple[Tensor, Tensor, Tensor]:
    """How well each turn covers the words of each policy, the other way round, and the first for the whole: [B, P] each."""
    turns, is_turn = _padded([text.words for text in conversations])  # the turn's own words first, then those before it
    weights = pad_sequence([text.weights[:, 1] for text in conversations], batch_first=True)  # [B, own]
    own = weights.shape[1]
    pairs = torch.einsum("bid,pjd->bpij", turns, offer.words)
    near = pairs[:, :, :own]
    known = near.masked_fill(~offer.is_word[None, :, None, :], -1.0).amax(dim=3)  # [B, P, own]
    if len(conversations) > 1:
        owns = torch.tensor([len(text.weights) for text in conversations])
        near = near.masked_fill((torch.arange(own) >= owns[:, None])[:, None, :, None], -1.0)
        pairs = pairs.masked_fill(~is_turn[:, None, :, None], -1.0)
    covered = (near.amax(dim=2) * offer.weights).sum(dim=-1)  # the nearest of each policy's tokens
    backwards = (known * weights[:, None]).sum(dim=-1)
    if all(len(text.words) == len(text.weights) for text in conversations):
        return covered, backwards, covered
    return covered, backwards, (pairs.amax(dim=2) * offer.weights).sum(dim=-1)


def _padded(words: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Words, and where there are some: [B, L, WORD_SIZE], [B, L]."""
    sizes = torch.tensor([len(one) for one in words])
    padded = pad_sequence(list(words), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < sizes[:, None]
