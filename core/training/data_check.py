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


def faults_of(document: dict[str, Any]) -> list[str]:
    """What is wrong with one area's file."""
    faults = []
    if len(document.get("domain", [])) < 2:
        faults.append("domain: fewer than 2 wordings")
    for key, least in (("vague", 5), ("outside", 10)):
        if len(document.get(key, [])) < least:
            faults.append(f"{key}: fewer than {least}")
    ids = [concept.get("id") for concept in document["concepts"]]
    faults += [f"{name}: twice" for name, count in Counter(ids).items() if count > 1]
    seen: Counter[str] = Counter()
    for concept in document["concepts"]:
        where = concept.get("id", "a concept without id")
        for key, least in (("policies", 3), ("requests", 10), ("conversations", 2), ("near_misses", 2)):
            if len(concept.get(key, [])) < least:
                faults.append(f"{where}: fewer than {least} {key}")
        for policy in concept.get("policies", []):
            if not isinstance(policy, dict) or set(policy) != {"name", "description"}:
                faults.append(f"{where}: a policy is not {{name, description}}: {policy}")
        for conversation in concept.get("conversations", []):
            roles = [turn["role"] for turn in conversation]
            if len(roles) < 3 or roles[-1] != "user" or set(roles) - {"user", "assistant"}:
                faults.append(f"{where}: a conversation must have 3 or more turns and end with the user: {roles}")
        faults += [f"{where}: overlaps unknown {other}" for other in concept.get("overlaps", []) if other not in ids]
        texts = concept.get("requests", []) + concept.get("near_misses", [])
        faults += [f"{where}: not a text: {text!r}" for text in texts if not isinstance(text, str) or not text.strip()]
        seen.update(text for text in concept.get("requests", []) if isinstance(text, str))
    faults += [f"request twice: {text!r}" for text, count in seen.items() if count > 1]
    return faults


def main(areas: list[str]) -> int:
    """Check the named areas, or all; print what was found."""
    files = [DATA / f"{area}.yaml" for area in areas] or sorted(DATA.glob("*.yaml"))
    failed = False
    for file in files:
        if file.name == "splits.yaml":
            continue
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        faults = faults_of(document)
        concepts = document["concepts"]
        requests = sum(len(concept.get("requests", [])) for concept in concepts)
        print(f"{file.name}: {len(concepts)} concepts, {requests} requests, {len(faults)} faults")
        for fault in faults:
            print(f"  {fault}")
        failed = failed or bool(faults)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
