"""Check the written training data: `python -m training.data_check [AREA…]`, from `core/`.

Every fault is named with its file and concept; the exit status is 1 if there was one.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "data"
BOARDS = DATA / "boards"
_LEAST = {"policies": 3, "requests": 10, "conversations": 2, "near_misses": 2}
_LEAST_OF_BOARDS = {"policies": 3, "requests": 5}


def faults_of(document: dict[str, Any], least_of: dict[str, int]) -> list[str]:
    """What is wrong with one area's file, whose concepts need at least so many entries."""
    faults = []
    if len(document.get("domain", [])) < 2:
        faults.append("domain: fewer than 2 wordings")
    for key, least in (("vague", 4), ("outside", 10)):
        if len(document.get(key, [])) < least:
            faults.append(f"{key}: fewer than {least}")
    ids = [concept.get("id") for concept in document["concepts"]]
    faults += [f"{name}: twice" for name, count in Counter(ids).items() if count > 1]
    seen: Counter[str] = Counter()
    for concept in document["concepts"]:
        where = concept.get("id", "a concept without id")
        for key, least in least_of.items():
            if len(concept.get(key, [])) < least:
                faults.append(f"{where}: fewer than {least} {key}")
        for policy in concept.get("policies", []):
            if not isinstance(policy, dict) or set(policy) != {"name", "description"}:
                faults.append(f"{where}: a policy is not {{name, description}}: {policy}")
        for conversation in concept.get("conversations", []):
            roles = [turn["role"] for turn in conversation]
            if len(roles) < 2 or roles[-1] != "user" or set(roles) - {"user", "assistant"}:
                faults.append(f"{where}: a conversation must have 2 or more turns and end with the user: {roles}")
        faults += [f"{where}: overlaps unknown {other}" for other in concept.get("overlaps", []) if other not in ids]
        texts = concept.get("requests", []) + concept.get("near_misses", [])
        faults += [f"{where}: not a text: {text!r}" for text in texts if not isinstance(text, str) or not text.strip()]
        seen.update(text for text in concept.get("requests", []) if isinstance(text, str))
    faults += [f"request twice: {text!r}" for text, count in seen.items() if count > 1]
    return faults


def main(areas: list[str]) -> int:
    """Check the named areas, or all; print what was found."""
    files = [file for file in sorted(DATA.glob("**/*.yaml")) if file.parent in (DATA, BOARDS)]
    failed = False
    for file in files:
        if file.name == "splits.yaml" or (areas and file.stem not in areas):
            continue
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        faults = faults_of(document, _LEAST_OF_BOARDS if file.parent == BOARDS else _LEAST)
        concepts = document["concepts"]
        requests = sum(len(concept.get("requests", [])) for concept in concepts)
        print(f"{file.name}: {len(concepts)} concepts, {requests} requests, {len(faults)} faults")
        for fault in faults:
            print(f"  {fault}")
        failed = failed or bool(faults)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
