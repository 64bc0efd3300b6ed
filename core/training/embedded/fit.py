"""Training: rooms of policies and conversations drawn anew for every step, and what a teacher makes of them."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Encoded, Reader
from archroute.evaluate import read_cases
from archroute.policy import OTHER, Policy
from training.embedded.batch import Compared, Step, answers_of, chosen_of, compared
from training.embedded.noise import hurried
from training.embedded.rooms import SIZES, Choice, RoomSampler, choices
from training.embedded.sampling import Case, Group, Sampler
from training.embedded.sources import WRITTEN, Area
from training.embedded.tensors import quickened

SEED = 20
SOURCES = {"written": 0.5, "clinc150": 0.13, "banking77": 0.15, "sgd": 0.22}
ROOMS, POLICIES, MEMBERS, CHOICES, ACROSS = 3, 18, 20, 8, 8
"""A step: its rooms, the policies and conversations of each, how many choices of the policies are asked about, and how many choices of
policies of all rooms, to which only a teacher knows the answer."""

NONE_SHARE, DROPOUT = 0.25, 0.3
"""What the conversations that belong to none count together, and the share of the null's content features left out."""

HURRIED = 0.45
"""The share of conversations with typing errors."""

APPLICATIONS = WRITTEN / "applications" / "validation.jsonl"

PEAK_RATE, TEACHER_RATE, HEAD_RATE, WARMUP = 8e-5, 4e-5, 2e-3, 0.05
"""The encoders' and the heads' peak learning rates, and the share of the steps in which they are reached."""

SMOOTHING = 0.03
"""The share of the target that goes to all answers alike: some of the cases can be seen in two ways."""

PLAIN_SHARE = 0.5
"""What the right answers count where there is a teacher; its probabilities count the rest."""

_TOLD, _MEASURED = 50, 250  # steps between two lines of the log, and between two looks at the validation areas


@dataclass(frozen=True)
class Learner:
    """A model that learns.

    Attributes:
        tensors: Its weights, trained in place where they need a gradient.
        encoder: Reads texts with them.
        rate: The encoder's peak learning rate.
    """

    tensors: dict[str, Tensor]
    encoder: Callable[[Mapping[str, Tensor]], Encoder] = Encoder
    rate: float = PEAK_RATE

    def compared(self, step: Step, dropout: float = 0.0) -> Compared:
        """What it makes of a step."""
        return compared(self.tensors, self.encoder(quickened(self.tensors)), step, dropout)


class Steps:
    """Draws what is learned from in each step; that depends on the seed and the step's number alone.

    Args:
        areas: What to draw from.
        reader: Makes tokens.
        seed: Of the draws.
        alike: See `Sampler`.
    """

    def __init__(
        self, areas: list[Area], reader: Reader, seed: int, alike: Collection[tuple[str, str]] = frozenset()
    ) -> None:
        self._areas, self._reader, self._seed, self._alike = areas, reader, seed, alike
        self._weights = {source: SOURCES[source] for source in sorted({area.source for area in areas})}

    def __getitem__(self, number: int) -> Step:
        """The rooms of a step, side by side."""
        draw = random.Random(f"{self._seed}/{number}")
        sampler = RoomSampler(self._areas, draw.getrandbits(64), augment=True, alike=self._alike)
        policies: list[Encoded] = []
        members: list[Encoded] = []
        mended: list[Encoded] = []
        asked: list[Choice] = []
        for _ in range(ROOMS):
            room = sampler.room(policies=POLICIES, members=MEMBERS, weights=self._weights)
            before, others = len(policies), len(members)
            asked.extend(
                Choice(
                    [before + place for place in one.policies], [others + place for place in one.members], one.answers
                )
                for one in choices(room, CHOICES, draw)
            )
            policies.extend(map(self._reader.policy, room.policies))
            for said in (member.conversation for member in room.members):
                mended.append(self._reader.conversation(said))
                wrong = hurried(said, draw, draw.choice((0.05, 0.1, 0.1))) if draw.random() < HURRIED else None
                members.append(self._reader.conversation(wrong) if wrong else mended[-1])
        everything = range(len(policies))
        asked.extend(
            Choice(draw.sample(everything, min(draw.randint(*SIZES), len(everything))), [], []) for _ in range(ACROSS)
        )
        return Step(policies, members, asked, mended)


def loss_of(found: Compared, step: Step) -> Tensor:
    """The mean loss of all choices; what belongs to none counts `NONE_SHARE` of each, and at most one and a half times its number."""
    answers, possible = answers_of(step), functional.pad(chosen_of(step), (0, 1), value=True)[:, None]
    logs = found.logits.log_softmax(dim=-1)
    right = -logs.take_along_dim(answers.clamp(min=0)[..., None], dim=-1).squeeze(-1)  # [choices, members]
    even = -(logs * possible).sum(dim=-1) / possible.sum(dim=-1)
    is_asked, is_none = answers >= 0, answers == len(step.policies)
    some = (is_asked & ~is_none).sum(dim=-1, keepdim=True).clamp(min=1)
    share = NONE_SHARE / (1 - NONE_SHARE) * some / is_none.sum(dim=-1, keepdim=True).clamp(min=1)
    weights = torch.where(is_none, share.clamp(max=1.5), 1.0) * is_asked
    each = ((1 - SMOOTHING) * right + SMOOTHING * even) * weights
    asked = is_asked.any(dim=-1)
    return (each.sum(dim=-1)[asked] / weights.sum(dim=-1)[asked]).mean()


class Lessons:
    """What a teacher adds to the loss: its probabilities in every choice, for everybody, and its vectors.

    It reads the conversations without their typing errors.

    Args:
        teacher: Trained already.
        hidden: The size of the learner's vectors.
    """

    def __init__(self, teacher: Learner, hidden: int) -> None:
        self._tensors = teacher.tensors
        self._encoder = teacher.encoder(quickened(teacher.tensors))
        size = teacher.tensors["embeddings.LayerNorm.weight"].numel()
        self.turned = torch.nn.init.orthogonal_(torch.empty(size, hidden)).requires_grad_()
        """From the learner's vectors to the teacher's."""

    def loss_of(self, found: Compared, step: Step, plain: Tensor) -> Tensor:
        """The whole loss, `plain` being the one of the right answers."""
        with torch.no_grad():
            shown = compared(self._tensors, self._encoder, step._replace(members=list(step.mended)))
        logs = found.logits.log_softmax(dim=-1)
        apart = functional.kl_div(logs, shown.logits.log_softmax(dim=-1), reduction="none", log_target=True).sum(dim=-1)
        turned = functional.cosine_similarity(found.vectors @ self.turned.T, shown.vectors, dim=-1)
        return PLAIN_SHARE * plain + (1 - PLAIN_SHARE) * apart.mean() + (1 - turned).mean()


def learning_rate(done: float) -> float:
    """The share of the peak rate when the share `done` of the steps is made."""
    return min(done / WARMUP, 1.0) * (0.5 + 0.5 * math.cos(math.pi * done))


def fit(
    learner: Learner,
    drawn: Steps,
    *,
    steps: int,
    teacher: Learner | None = None,
    look: Callable[[], object] = lambda: None,
) -> None:
    """Train a model in place.

    Args:
        learner: To be trained.
        drawn: What to learn from.
        steps: Updates of the weights.
        teacher: Trained already, to learn from too.
        look: Called now and then.
    """
    tensors = learner.tensors
    head = [tensor for name, tensor in tensors.items() if name.startswith("head.")]
    body = [tensor for name, tensor in tensors.items() if tensor.requires_grad and not name.startswith("head.")]
    lessons = Lessons(teacher, tensors["embeddings.LayerNorm.weight"].numel()) if teacher else None
    if lessons:
        head.append(lessons.turned)
    optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], lr=learner.rate, weight_decay=0.01)
    start, losses = time.monotonic(), []
    for number in range(1, steps + 1):
        for parameters, peak in zip(optimizer.param_groups, (learner.rate, HEAD_RATE), strict=True):
            parameters["lr"] = peak * learning_rate(number / steps)
        step = drawn[number]
        found = learner.compared(step, DROPOUT)
        loss = plain = loss_of(found, step)
        if lessons:
            loss = lessons.loss_of(found, step, plain)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimizer.step()
        losses.append((plain.item(), loss.item()))
        if number % _TOLD == 0:
            means = [sum(column) / _TOLD for column in zip(*losses[-_TOLD:], strict=True)]
            spent = (time.monotonic() - start) / number
            print(
                f"step {number}/{steps}: loss {means[0]:.3f}, with lessons {means[1]:.3f}, {spent:.2f} s a step",
                flush=True,
            )
        if number % _MEASURED == 0:
            look()


@torch.inference_mode()
def results(
    tensors: Mapping[str, Tensor],
    reader: Reader,
    areas: Sequence[Area],
    groups: int,
    encoder: Callable[[Mapping[str, Tensor]], Encoder] = Encoder,
) -> list[tuple[str, str, Tensor, int]]:
    """Source, kind, logits and right place of cases drawn with ten policies, as written, and of the applications' validation cases."""
    drawn = [("applications", group) for group in applications()]
    for source in sorted({area.source for area in areas}):
        sampler = Sampler([area for area in areas if area.source == source], SEED, augment=False)
        drawn += [
            (source, sampler.group(policies=10, cases=16, weights={source: 1.0}, absent=0.2)) for _ in range(groups)
        ]
    reading, found = encoder(tensors), []
    for source, group in drawn:
        members = [reader.conversation(case.conversation) for case in group.cases]
        offered = list(range(len(group.policies)))
        step = Step([reader.policy(policy) for policy in group.policies], members, [Choice(offered, [], [])])
        for case, row in zip(group.cases, compared(tensors, reading, step).logits[0], strict=True):
            found.append((source, case.kind, row, len(offered) if case.answer is None else case.answer))
    return found


def applications() -> list[Group]:
    """The validation cases written by somebody else: policies, and the cases that have them to choose from."""
    found: dict[tuple[Policy, ...], list[Case]] = defaultdict(list)
    for case in read_cases(APPLICATIONS):
        routes = tuple(case.policies.routes)
        names = [route.name for route in routes]
        answer = None if case.answer == OTHER else names.index(case.answer)
        found[routes].append(Case(case.conversation, answer, case.kind))
    return [Group(routes, tuple(cases)) for routes, cases in found.items()]


def accuracy(
    tensors: Mapping[str, Tensor],
    reader: Reader,
    areas: Sequence[Area],
    groups: int = 25,
    encoder: Callable[[Mapping[str, Tensor]], Encoder] = Encoder,
) -> dict[str, float]:
    """Accuracy by source, and by source and kind."""
    return shares(results(tensors, reader, areas, groups, encoder))


def shares(found: Sequence[tuple[str, str, Tensor, int]]) -> dict[str, float]:
    """The share of right answers by source, and by source and kind."""
    right: dict[str, list[bool]] = defaultdict(list)
    for source, kind, logits, answer in found:
        for key in (source, f"{source}/{kind}"):
            right[key].append(int(logits.argmax()) == answer)
    return {key: round(sum(values) / len(values), 4) for key, values in sorted(right.items())}
