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
NULL_FEATURES = 10
"""The size of a word's vector, and how many numbers on the similarities the decision for "none of them" sees."""

_SHOWN = 3  # the best scores that it sees one by one


class Embedding(NamedTuple):
    """A text as it is compared.

    Attributes:
        vector: Of the text itself, of length 1: [hidden].
        context: Of what came before it, of length 1, or zeros: [hidden].
        words: Of each token of the text itself, of length 1: [tokens, WORD_SIZE].
        weights: What each token counts, summing to 1: where the text is a policy, and where it is a turn. [tokens, 2].
    """

    vector: Tensor
    context: Tensor
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
        return cls(torch.stack([text.vector for text in policies]), *_padded(policies, 0))


class Comparison:
    """Scores policies against conversations.

    A policy's score is a weighted sum: the cosine of the policy and the turn; how well the turn covers the policy's words (each word's
    nearest one in the turn counts), and the other way round; and the cosine of the policy and the turns before, as far as the turn
    reads like one that needs them. "None of them" is decided against the policies at hand: its score comes from how the best ones
    stand out, and from what the conversation and the best policy have in common.

    Args:
        tensors: The checkpoint's `head.*`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def embedding(self, hidden: Tensor, text: Encoded) -> Embedding:
        """What is compared of a text with token vectors `hidden [tokens, hidden]`."""
        own, before = hidden.split_with_sizes([text.kinds.count(0), text.kinds.count(1)])
        vector, context = (functional.normalize(part.sum(dim=0), dim=-1) for part in (own, before))
        words = functional.normalize(functional.linear(own, self._tensors["head.words.weight"]), dim=-1)
        weights = functional.linear(own, self._tensors["head.weights.weight"]).softmax(dim=0)
        return Embedding(vector, context, words, weights)

    def logits(self, conversations: Sequence[Embedding], policies: Sequence[Embedding] | Offer) -> Tensor:
        """The scores of all policies and, last, of none of them: [conversations, policies + 1]."""
        offer = policies if isinstance(policies, Offer) else Offer.of(policies)
        asked, offered = torch.stack([text.vector for text in conversations]), offer.vectors
        leaning = functional.linear(asked, self._tensors["head.leaning.weight"], self._tensors["head.leaning.bias"])
        context = torch.stack([text.context for text in conversations]) @ offered.T * leaning.sigmoid()
        words = _word_by_word(conversations, offer)
        parts = torch.stack([asked @ offered.T, *words, context], dim=-1)
        score = parts @ self._tensors["head.mix"]
        best = score.argmax(dim=1)
        shown = score.topk(min(_SHOWN, len(offered)), dim=1).values
        features = [
            functional.pad(shown, (0, _SHOWN - shown.shape[1]), value=-1.0),
            score.mean(dim=1, keepdim=True),
            score.std(dim=1, keepdim=True, unbiased=False),
            torch.full_like(shown[:, :1], float(len(offered))).log(),
            parts[torch.arange(len(best)), best],
        ]
        # The products of two unit vectors are small numbers: 10 brings them near 1.
        null = self._null(torch.cat([*features, asked, 10 * asked * offered[best]], dim=1))
        return torch.cat([score, null], dim=1) * self._tensors["head.scale"].exp()

    def _null(self, features: Tensor) -> Tensor:
        for number in (0, 1):
            name = f"head.null.{number}"
            features = functional.linear(features, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])
            features = functional.gelu(features) if number == 0 else features
        return features


def _word_by_word(conversations: Sequence[Embedding], offer: Offer) -> tuple[Tensor, Tensor]:
    """How well each conversation covers the words of each policy, and the other way round: [B, P] each."""
    turns, turn_weights, turn_is = _padded(conversations, 1)
    pairs = torch.einsum("bid,pjd->bpij", turns, offer.words)
    found = pairs.masked_fill(~turn_is[:, None, :, None], -1.0).amax(dim=2)  # [B, P, policy tokens]
    known = pairs.masked_fill(~offer.is_word[None, :, None, :], -1.0).amax(dim=3)  # [B, P, turn tokens]
    return (found * offer.weights).sum(dim=-1), (known * turn_weights[:, None]).sum(dim=-1)


def _padded(texts: Sequence[Embedding], role: int) -> tuple[Tensor, Tensor, Tensor]:
    """Words, their weights (0 where there is none), and where there are some: [B, L, WORD_SIZE], [B, L], [B, L]."""
    words = pad_sequence([text.words for text in texts], batch_first=True)
    weights = pad_sequence([text.weights[:, role] for text in texts], batch_first=True)
    sizes = torch.tensor([len(text.words) for text in texts])
    return words, weights, torch.arange(words.shape[1]) < sizes[:, None]
