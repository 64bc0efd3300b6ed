"""Training: rooms of policies and conversations drawn anew for every step."""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from archroute.engines.embedded.comparison import Comparison
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Reader
from archroute.evaluate import read_cases
from archroute.policy import OTHER, Policy
from training.embedded.likeness import alike_concepts
from training.embedded.rooms import Room, RoomSampler, choices
from training.embedded.sampling import Case, Group, Sampler
from training.embedded.sources import WRITTEN, Area
from training.embedded.tensors import halved

SEED = 20
SOURCES = {"written": 0.45, "clinc150": 0.15, "banking77": 0.2, "sgd": 0.2}
ROOMS, POLICIES, MEMBERS, CHOICES = 3, 18, 20, 8
"""A step: its rooms, the policies and conversations of each, and how many choices of the policies are asked about."""

NONE_SHARE, DROPOUT = 0.25, 0.3
"""What the conversations that belong to none count together, and the share of the null's content features left out."""

APPLICATIONS = WRITTEN / "applications" / "validation.jsonl"

PEAK_RATE, HEAD_RATE, WARMUP = 8e-5, 2e-3, 0.05
"""The encoder's and the head's peak learning rates, and the share of the steps in which they are reached."""

SMOOTHING = 0.03
"""The share of the target that goes to all answers alike: some of the cases can be seen in two ways."""

_TOLD, _MEASURED = 50, 200  # steps between two lines of the log, and between two looks at the validation areas


def group_logits(
    tensors: Mapping[str, Tensor], encoder: Encoder, reader: Reader, groups: Sequence[Group]
) -> list[tuple[Tensor, Tensor]]:
    """Each group's logits and the right places, the null last: [cases, policies + 1], [cases]."""
    texts = [reader.policy(policy) for group in groups for policy in group.policies]
    offered = len(texts)
    texts += [reader.conversation(case.conversation) for group in groups for case in group.cases]
    comparison = Comparison(tensors)
    found = comparison.embeddings(encoder.read(texts), texts)
    policies, cases = iter(found[:offered]), iter(found[offered:])
    result = []
    for group in groups:
        logits = comparison.logits([next(cases) for _ in group.cases], [next(policies) for _ in group.policies])
        answers = [len(group.policies) if case.answer is None else case.answer for case in group.cases]
        result.append((logits, torch.tensor(answers)))
    return result


def room_loss(
    tensors: Mapping[str, Tensor], encoder: Encoder, reader: Reader, rooms: Sequence[Room], draw: random.Random
) -> Tensor:
    """The mean loss of some choices in each of the rooms."""
    texts = [reader.policy(policy) for room in rooms for policy in room.policies]
    offered = len(texts)
    texts += [reader.conversation(member.conversation) for room in rooms for member in room.members]
    comparison = Comparison(tensors, DROPOUT)
    found = comparison.embeddings(encoder.read(texts), texts)
    policies, asked = iter(found[:offered]), iter(found[offered:])
    losses = []
    for room in rooms:
        all_of_all = comparison.similarities(
            [next(asked) for _ in room.members], [next(policies) for _ in room.policies]
        )
        for choice in choices(room, CHOICES, draw):
            logits = comparison.decided(all_of_all.among(torch.tensor(choice.members), torch.tensor(choice.policies)))
            answers = torch.tensor(choice.answers)
            each = functional.cross_entropy(logits, answers, label_smoothing=SMOOTHING, reduction="none")
            none = answers == len(choice.policies)
            share = NONE_SHARE / (1 - NONE_SHARE) * max(int((~none).sum()), 1) / max(int(none.sum()), 1)
            weights = torch.where(none, min(share, 1.5), 1.0)
            losses.append((each * weights).sum() / weights.sum())
    return torch.stack(losses).mean()


def learning_rate(done: float) -> float:
    """The share of the peak rate when the share `done` of the steps is made."""
    return min(done / WARMUP, 1.0) * (0.5 + 0.5 * math.cos(math.pi * done))


def fit(
    tensors: dict[str, Tensor],
    reader: Reader,
    areas: list[Area],
    validation: list[Area],
    *,
    steps: int,
    seed: int,
    strength: float = 1.0,
    keep: Path | None = None,
) -> None:
    """Train the tensors in place.

    Args:
        tensors: To be trained, those that need a gradient.
        reader: Makes tokens.
        areas: To learn from.
        validation: To look at now and then.
        steps: Updates of the weights.
        seed: Of the draws.
        strength: A factor for all learning rates.
        keep: Where to write the tensors now and then.
    """
    head = [tensor for name, tensor in tensors.items() if name.startswith("head.")]
    body = [tensor for name, tensor in tensors.items() if tensor.requires_grad and not name.startswith("head.")]
    peaks = [PEAK_RATE * strength, HEAD_RATE * strength]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], lr=PEAK_RATE, weight_decay=0.01)
    sampler = RoomSampler(areas, seed, augment=True, alike=alike_concepts(tensors, reader, areas))
    draw = random.Random(seed)
    start, losses = time.monotonic(), []
    for step in range(1, steps + 1):
        for parameters, peak in zip(optimizer.param_groups, peaks, strict=True):
            parameters["lr"] = peak * learning_rate(step / steps)
        rooms = [sampler.room(policies=POLICIES, members=MEMBERS, weights=SOURCES) for _ in range(ROOMS)]
        with sdpa_kernel(SDPBackend.MATH):  # its backward pass is twice as fast on texts this short
            loss = room_loss(tensors, Encoder(halved(tensors)), reader, rooms, draw)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % _TOLD == 0:
            mean, spent = sum(losses[-_TOLD:]) / _TOLD, (time.monotonic() - start) / step
            print(f"step {step}/{steps}: loss {mean:.3f}, {spent:.2f} s a step", flush=True)
        if step % _MEASURED == 0 and keep:
            save_file({name: tensor.detach() for name, tensor in tensors.items()}, keep)
        if step % _MEASURED == 0 and step < steps and validation:
            print(json.dumps(accuracy(tensors, reader, validation, groups=10)), flush=True)


@torch.inference_mode()
def results(
    tensors: Mapping[str, Tensor], reader: Reader, areas: Sequence[Area], groups: int
) -> list[tuple[str, str, Tensor, int]]:
    """Source, kind, logits and right place of cases drawn with ten policies, as written, and of the applications' validation cases."""
    found = []
    encoder = Encoder(tensors)
    for routes, cases in applications():
        ((logits, answers),) = group_logits(tensors, encoder, reader, [Group(routes, cases)])
        found += [
            ("applications", case.kind, row, answer)
            for case, row, answer in zip(cases, logits, answers.tolist(), strict=True)
        ]
    for source in sorted({area.source for area in areas}):
        sampler = Sampler([area for area in areas if area.source == source], SEED, augment=False)
        for _ in range(groups):
            group = sampler.group(policies=10, cases=16, weights={source: 1.0}, absent=0.2)
            ((logits, answers),) = group_logits(tensors, encoder, reader, [group])
            for case, row, answer in zip(group.cases, logits, answers.tolist(), strict=True):
                found.append((source, case.kind, row, answer))
    return found


def applications() -> list[tuple[tuple[Policy, ...], tuple[Case, ...]]]:
    """The validation cases written by somebody else: policies, and the cases that have them to choose from."""
    found: dict[tuple[Policy, ...], list[Case]] = defaultdict(list)
    for case in read_cases(APPLICATIONS):
        routes = tuple(case.policies.routes)
        names = [route.name for route in routes]
        answer = None if case.answer == OTHER else names.index(case.answer)
        found[routes].append(Case(case.conversation, answer, case.kind))
    return [(routes, tuple(cases)) for routes, cases in found.items()]


def accuracy(
    tensors: Mapping[str, Tensor], reader: Reader, areas: Sequence[Area], groups: int = 25
) -> dict[str, float]:
    """Accuracy by source, and by source and kind."""
    return shares(results(tensors, reader, areas, groups))


def shares(found: Sequence[tuple[str, str, Tensor, int]]) -> dict[str, float]:
    """The share of right answers by source, and by source and kind."""
    right: dict[str, list[bool]] = defaultdict(list)
    for source, kind, logits, answer in found:
        for key in (source, f"{source}/{kind}"):
            right[key].append(int(logits.argmax()) == answer)
    return {key: round(sum(values) / len(values), 4) for key, values in sorted(right.items())}
