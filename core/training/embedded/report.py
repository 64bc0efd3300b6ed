"""Compare models on files of cases: `python -m training.embedded.report FILE.jsonl… [--float CHECKPOINT]`, from `core/`.

Prints, as a Markdown table, accuracy by kind of the shipped int8 model, of its float checkpoint if given, and of all-MiniLM-L6-v2
without training (its threshold for `other` the best for the file, in hindsight); then the shipped model's calibration error and the share
of decisions that change when the policies are given in reverse.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file

from archroute.engines.base import Engine
from archroute.engines.embedded import EmbeddedEngine
from archroute.engines.embedded.comparison import Comparison
from archroute.engines.embedded.encoder import Encoder
from archroute.evaluate import Case, read_cases
from archroute.policy import OTHER
from training.embedded.baseline import ZeroShot
from training.embedded.calibration import calibration_error


def best_threshold(engine: ZeroShot, cases: list[Case]) -> float:
    """The cosine below which `other` is best answered on these very cases."""
    best, right = [], []
    for case in cases:
        names = [route.name for route in case.policies.routes]
        top = engine.cosines(case.policies.routes, [case.conversation])[0].max(dim=0)
        best.append(float(top.values))
        right.append((names[int(top.indices)] == case.answer, case.answer == OTHER))
    tried = [-1.0, *(step / 100 for step in range(1, 80))]
    return max(
        tried, key=lambda bar: sum(hit if top >= bar else none for top, (hit, none) in zip(best, right, strict=True))
    )


def decided(engine: Engine, cases: list[Case], *, backwards: bool = False) -> list[dict[str, float]]:
    """The probabilities of every case."""
    found = []
    for case in cases:
        routes = case.policies.routes[::-1] if backwards else case.policies.routes
        found.append(dict(engine.score(routes, [case.conversation])[0].probabilities))
    return found


def top(probabilities: dict[str, float]) -> str:
    """The likeliest answer."""
    return max(probabilities, key=lambda name: probabilities[name])


def main() -> None:
    """Print the comparison of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument(
        "--float", dest="checkpoint", type=Path, help="as `python -m training.embedded --keep` writes it"
    )
    arguments = parser.parse_args()
    shipped = EmbeddedEngine()
    for file in arguments.files:
        cases = read_cases(file)
        zero_shot = ZeroShot()
        zero_shot.threshold = best_threshold(zero_shot, cases)
        engines: dict[str, Engine] = {"zero-shot": zero_shot, "int8": shipped}
        if arguments.checkpoint:
            tensors = load_file(arguments.checkpoint)
            plain = EmbeddedEngine()
            plain._encoder, plain._comparison = Encoder(tensors), Comparison(tensors)
            engines["float"] = plain
        answers = {name: decided(engine, cases) for name, engine in engines.items()}
        right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for name, rows in answers.items():
            for case, row in zip(cases, rows, strict=True):
                for kind in ("all", case.kind):
                    right[kind][name].append(top(row) == case.answer)
        print(f"\n{file.name}, zero-shot threshold {zero_shot.threshold}\n")
        print("| kind | n |", " | ".join(engines), "|\n| --- | --- |", " | ".join("---" for _ in engines), "|")
        for kind, found in sorted(right.items()):
            shares = " | ".join(f"{100 * sum(found[name]) / len(found[name]):.1f}" for name in engines)
            print(f"| {kind} | {len(found['int8'])} | {shares} |")
        backwards = decided(shipped, cases, backwards=True)
        changed = sum(top(one) != top(other) for one, other in zip(answers["int8"], backwards, strict=True))
        logits = [
            ("", case.kind, torch.tensor([*row.values()]).log(), [*row].index(case.answer))
            for case, row in zip(cases, answers["int8"], strict=True)
        ]
        print(
            f"\ncalibration error {calibration_error(logits):.3f}; decisions changed by the order: {changed} of {len(cases)}"
        )


if __name__ == "__main__":
    main()
