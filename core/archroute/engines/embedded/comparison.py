"""How a conversation is compared with policies, once both are read: similarity as a whole and word by word, and "none of them"."""

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

SHOWN = 3
"""The best scores that it sees one by one."""


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
        words = pad_sequence([text.words for text in policies], batch_first=True)
        is_word = torch.arange(words.shape[1]) < torch.tensor([len(text.words) for text in policies])[:, None]
        weights = pad_sequence([text.weights[:, 0] for text in policies], batch_first=True)
        return cls(torch.stack([text.vector for text in policies]), words, weights, is_word)


class Comparison:
    """Scores policies against conversations.

    A policy's score is a weighted sum: the cosines of the policy with the turn and with the whole conversation; how well the turn
    covers the policy's words (each word's nearest one in the turn counts), the other way round, and how well the whole conversation
    covers them. A learned gate says of each earlier token how much it counts. "None of them" is decided against the policies at hand:
    its score comes from how the best ones stand out, and from what the conversation and the best policy have in common.

    Args:
        tensors: The checkpoint's `head.*`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._of_tokens = torch.cat([tensors[f"head.{name}.weight"] for name in ("words", "weights", "gate")])

    def embedding(self, hidden: Tensor, text: Encoded) -> Embedding:
        """What is compared of a text with token vectors `hidden [tokens, hidden]`."""
        words, weights, gates = functional.linear(hidden, self._of_tokens).split_with_sizes([WORD_SIZE, 2, 1], dim=1)
        words = functional.normalize(words, dim=-1)
        count = text.kinds.count(0)
        weights = weights[:count].softmax(dim=0)
        total = hidden[:count].sum(dim=0)
        vector = functional.normalize(total, dim=-1)
        if count == len(hidden):
            return Embedding(vector, vector, words, weights)
        before = (gates[count:] + self._tensors["head.gate.bias"]).sigmoid()  # [tokens before, 1]
        whole = functional.normalize(total + (before * hidden[count:]).sum(dim=0), dim=-1)
        return Embedding(vector, whole, torch.cat([words[:count], before * words[count:]]), weights)

    def logits(self, conversation: Embedding, offer: Offer) -> Tensor:
        """The scores of all policies and, last, of none of them: [policies + 1]."""
        parts = _similarities(conversation, offer)
        score = parts @ self._tensors["head.mix"]  # [policies]
        best, count = int(score.argmax()), len(score)
        shown = score.topk(min(SHOWN, count)).values
        spread = torch.stack([score.mean(), score.std(unbiased=False), score.new_tensor(float(count)).log()])
        # The products of two unit vectors are small numbers: 10 brings them near 1.
        content = torch.cat([conversation.vector, 10 * conversation.whole * offer.vectors[best]])
        features = [functional.pad(shown, (0, SHOWN - len(shown)), value=-1.0), spread, parts[best], content]
        null = self._linear("null.1", functional.gelu(self._linear("null.0", torch.cat(features))))
        return torch.cat([score, null]) * self._tensors["head.scale"].exp()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._tensors[f"head.{name}.weight"], self._tensors[f"head.{name}.bias"])


def _similarities(conversation: Embedding, offer: Offer) -> Tensor:
    """Every kind of similarity: [policies, SIMILARITIES]."""
    own = len(conversation.weights)
    pairs = torch.einsum("id,pjd->pij", conversation.words, offer.words)
    near = pairs[:, :own]  # the turn's own words come first
    known = near.masked_fill(~offer.is_word[:, None], -1.0).amax(dim=2)  # [P, own]
    covered = (near.amax(dim=1) * offer.weights).sum(dim=1)  # the nearest of each policy's tokens
    backwards = (known * conversation.weights[:, 1]).sum(dim=1)
    whole = covered if own == len(conversation.words) else (pairs.amax(dim=1) * offer.weights).sum(dim=1)
    cosines = offer.vectors @ torch.stack([conversation.vector, conversation.whole], dim=1)
    return torch.cat([cosines, torch.stack([covered, backwards, whole], dim=1)], dim=1)
