"""A training step as tensors: every conversation against every policy, under many choices of the policies at once.

The sums are those of `archroute.engines.embedded.comparison`, over padded rows, so that a step costs few operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from archroute.engines.embedded.comparison import SHOWN
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Encoded
from training.embedded.rooms import Choice

IGNORED = -100
"""The answer of a conversation that is not asked about."""

_NEVER = -1e4  # the score of what is not there: finite, so that its gradient is


class Step(NamedTuple):
    """Policies and conversations in tokens, and what is asked about them; last, the conversations without their typing errors."""

    policies: list[Encoded]
    members: list[Encoded]
    choices: list[Choice]
    mended: Sequence[Encoded] = ()


class Compared(NamedTuple):
    """What a model makes of a step.

    Attributes:
        logits: The scores of all policies, those not chosen far below, and, last, of none of them: [choices, members, policies + 1].
        vectors: Of the policies and the turns: [policies + members, hidden].
    """

    logits: Tensor
    vectors: Tensor


class _Texts(NamedTuple):
    """Several texts, padded: vectors [N, hidden], wholes the same, words [N, L, WORD_SIZE], weights [N, L, 2], the others [N, L]."""

    vectors: Tensor
    wholes: Tensor
    words: Tensor
    weights: Tensor
    is_own: Tensor
    is_word: Tensor


def answers_of(step: Step) -> Tensor:
    """The right place, the number of all policies for "none of them", or `IGNORED`: [choices, members]."""
    answers = torch.full((len(step.choices), len(step.members)), IGNORED)
    for number, choice in enumerate(step.choices):
        places = [*choice.policies, len(step.policies)]
        answers[number, choice.members] = torch.tensor([places[answer] for answer in choice.answers], dtype=torch.long)
    return answers


def chosen_of(step: Step) -> Tensor:
    """Which policies each choice has: [choices, policies]."""
    chosen = torch.zeros(len(step.choices), len(step.policies), dtype=torch.bool)
    for number, choice in enumerate(step.choices):
        chosen[number, choice.policies] = True
    return chosen


def compared(tensors: Mapping[str, Tensor], encoder: Encoder, step: Step, dropout: float = 0.0) -> Compared:
    """Reads a step and decides all its choices.

    Args:
        tensors: The checkpoint's `head.*`.
        encoder: Of the same checkpoint.
        step: What is compared.
        dropout: The share of the numbers on "none of them" that is left out at random.
    """
    texts = [*step.policies, *step.members]
    read, count = encoder.read(texts), len(step.policies)
    offer, asked = _texts(tensors, read[:count], texts[:count]), _texts(tensors, read[count:], texts[count:])
    logits = _decided(tensors, asked, offer, chosen_of(step)[:, None], dropout)
    return Compared(logits, torch.cat([offer.vectors, asked.vectors]))


def _texts(tensors: Mapping[str, Tensor], read: Sequence[Tensor], texts: Sequence[Encoded]) -> _Texts:
    hidden = pad_sequence(list(read), batch_first=True)
    kinds = pad_sequence([torch.tensor(text.kinds) for text in texts], batch_first=True, padding_value=2)
    own, before = (kinds == 0)[..., None], (kinds == 1)[..., None]
    gate = own + before * (functional.linear(hidden, tensors["head.gate.weight"]) + tensors["head.gate.bias"]).sigmoid()
    words = gate * functional.normalize(functional.linear(hidden, tensors["head.words.weight"]), dim=-1)
    weights = functional.linear(hidden, tensors["head.weights.weight"]).masked_fill(~own, _NEVER).softmax(dim=1)
    vectors = functional.normalize((own * hidden).sum(dim=1), dim=-1)
    wholes = functional.normalize((gate * hidden).sum(dim=1), dim=-1)
    return _Texts(vectors, wholes, words, weights, kinds == 0, kinds < 2)


def _similarities(asked: _Texts, offer: _Texts) -> Tensor:
    """Every kind of similarity: [members, policies, SIMILARITIES]."""
    pairs = torch.einsum("mid,pjd->mpij", asked.words, offer.words)
    near = pairs.masked_fill(~asked.is_own[:, None, :, None], -1.0)
    known = near.masked_fill(~offer.is_word[None, :, None, :], -1.0).amax(dim=3)
    covered = (near.amax(dim=2) * offer.weights[None, ..., 0]).sum(dim=-1)
    backwards = (known * asked.weights[:, None, :, 1]).sum(dim=-1)
    said = pairs.masked_fill(~asked.is_word[:, None, :, None], -1.0).amax(dim=2)
    whole = (said * offer.weights[None, ..., 0]).sum(dim=-1)
    cosines = [vectors @ offer.vectors.T for vectors in (asked.vectors, asked.wholes)]
    return torch.stack([*cosines, covered, backwards, whole], dim=-1)


def _decided(tensors: Mapping[str, Tensor], asked: _Texts, offer: _Texts, among: Tensor, dropout: float) -> Tensor:
    """See `Compared.logits`. among: [choices, 1, policies]."""
    parts = _similarities(asked, offer)
    members, policies = parts.shape[:2]
    score = (parts @ tensors["head.mix"]).expand(len(among), members, policies)
    offered = score.masked_fill(~among, _NEVER)
    best = offered.argmax(dim=-1)  # [choices, members]
    shown = offered.topk(min(SHOWN, policies), dim=-1).values
    shown = functional.pad(shown.masked_fill(shown <= _NEVER, -1.0), (0, SHOWN - shown.shape[-1]), value=-1.0)
    size = among.sum(dim=-1, keepdim=True)  # [choices, 1, 1]
    mean = (score * among).sum(dim=-1, keepdim=True) / size
    spread = (((score - mean) ** 2 * among).sum(dim=-1, keepdim=True) / size).clamp(min=1e-12).sqrt()
    best_parts = parts[torch.arange(members), best]  # [choices, members, SIMILARITIES]
    content = torch.cat([asked.vectors.expand(len(among), -1, -1), 10 * asked.wholes * offer.vectors[best]], dim=-1)
    features = [shown, mean, spread, size.log().expand_as(mean), best_parts, functional.dropout(content, dropout)]
    hidden = functional.linear(torch.cat(features, dim=-1), tensors["head.null.0.weight"], tensors["head.null.0.bias"])
    null = functional.linear(functional.gelu(hidden), tensors["head.null.1.weight"], tensors["head.null.1.bias"])
    scale = tensors["head.scale"].exp()
    return torch.cat([(score * scale).masked_fill(~among, _NEVER), null * scale], dim=-1)
