"""Write cases for `archroute eval`: `python -m training.embedded.evaluate --public DIR --split validation --out DIR`, from `core/`.

One file a source, of cases with ten policies each, drawn from areas that were not learned from, and beside it `SOURCE_typos.jsonl`, the
same cases with an error in every tenth letter of the last turn.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from archroute.conversation import Conversation
from archroute.policy import OTHER, Policy
from training.embedded.fit import SEED
from training.embedded.likeness import alike_pairs
from training.embedded.noise import hurried
from training.embedded.sampling import Case, Sampler
from training.embedded.sources import Area, read_corpus

POLICIES, CASES = 10, 8


def written_cases(areas: list[Area], source: str, groups: int) -> tuple[list[str], list[str]]:
    """JSON lines of cases, as they are and misspelt."""
    chosen = [area for area in areas if area.source == source]
    sampler, draw = Sampler(chosen, SEED, augment=False, alike=alike_pairs(chosen)), random.Random(SEED)
    lines: tuple[list[str], list[str]] = [], []
    for _ in range(groups):
        group = sampler.group(policies=POLICIES, cases=CASES, weights={source: 1.0}, absent=0.2)
        for case in group.cases:
            lines[0].append(_line(group.policies, case, case.conversation))
            lines[1].append(_line(group.policies, case, hurried(case.conversation, draw)))
    return lines


def _line(policies: tuple[Policy, ...], case: Case, conversation: Conversation) -> str:
    return json.dumps(
        {
            "policies": [{"name": policy.name, "description": policy.description} for policy in policies],
            "conversation": [{"role": turn.role, "content": turn.content} for turn in conversation.turns],
            "answer": OTHER if case.answer is None else policies[case.answer].name,
            "kind": case.kind,
        },
        ensure_ascii=False,
    )


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public", type=Path, required=True, help="directory of the public data sets' files")
    parser.add_argument("--split", choices=("validation", "test"), required=True)
    parser.add_argument(
        "--groups", type=int, default=100, help=f"of {CASES} cases with the same policies (%(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    areas = getattr(read_corpus(arguments.public), arguments.split)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for source in sorted({area.source for area in areas}):
        plain, misspelt_lines = written_cases(areas, source, arguments.groups)
        for name, lines in ((source, plain), (f"{source}_typos", misspelt_lines)):
            (arguments.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(f"{arguments.out / name}.jsonl: {len(lines)} cases")


if __name__ == "__main__":
    main()
