"""Making probabilities mean what they say: a scale of all scores and a shift of the null's, fitted on the validation areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Result = tuple[str, str, Tensor, int]
_BINS = 15


def calibrated(tensors: dict[str, Tensor], results: Sequence[Result]) -> dict[str, Tensor]:
    """The tensors with the head's scale and the null's bias at the likeliest of the results; every source counts the same."""
    change = torch.zeros(2, requires_grad=True)  # log of the factor, shift of the null logit
    optimizer = torch.optim.LBFGS([change], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = _loss(results, change)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    factor, shift = change.detach()
    scale = tensors["head.scale"].exp()
    return tensors | {
        "head.scale": tensors["head.scale"] + factor,
        "head.null.1.bias": tensors["head.null.1.bias"] + shift / scale,
    }


def recalibrated(results: Sequence[Result], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[Result]:
    """The results as `after` would have given them, which differs from `before` as `calibrated` makes it differ."""
    factor = (after["head.scale"] - before["head.scale"]).exp()
    shift = (after["head.null.1.bias"] - before["head.null.1.bias"]) * before["head.scale"].exp()
    return [
        (source, kind, torch.cat([row[:-1], row[-1:] + shift]) * factor, answer)
        for source, kind, row, answer in results
    ]


def calibration_error(results: Sequence[Result]) -> float:
    """The expected calibration error of the likeliest answer's probability, over bins of equal width."""
    sure = torch.stack([row.softmax(dim=0).max() for _, _, row, _ in results])
    right = torch.tensor([float(int(row.argmax()) == answer) for _, _, row, answer in results])
    bins = (sure * _BINS).long().clamp(max=_BINS - 1)
    gaps = [(sure[bins == number] - right[bins == number]).sum().abs() for number in range(_BINS)]
    return float(torch.stack(gaps).sum() / len(results))


def _loss(results: Sequence[Result], change: Tensor) -> Tensor:
    sources = sorted({source for source, *_ in results})
    losses = []
    for wanted in sources:
        rows = [
            functional.cross_entropy(
                torch.cat([row[:-1], row[-1:] + change[1]]) * change[0].exp(), torch.tensor(answer)
            )
            for source, _, row, answer in results
            if source == wanted
        ]
        losses.append(torch.stack(rows).mean())
    return torch.stack(losses).mean()
