"""What the embedded model learns from: policy concepts, each with wordings and requests.

Two sources: the data written for this project (`training/data`), and CLINC150, BANKING77 and the Schema-Guided Dialogues in the
form of `intents.jsonl`, `dialogues.jsonl` and `out_of_scope.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from archroute.conversation import Conversation
from archroute.policy import Policy

WRITTEN = Path(__file__).parent.parent / "data"
WORDINGS = WRITTEN / "public" / "wordings.yaml"


@dataclass(frozen=True)
class Concept:
    """One thing a policy can be about.

    Attributes:
        key: Unique within its area.
        wordings: Policies that mean it.
        requests: Conversations whose last turn belongs to it, by the split of their source.
        near_misses: Texts that look like it and belong to `other`.
        overlaps: Keys of concepts of the area that may be right for its requests too.
        kin: Keys of concepts on the same subject, itself included: where it is measured, what belongs to one of them is never
            asked for `other` beside another one.
    """

    key: str
    wordings: tuple[Policy, ...]
    requests: tuple[Conversation, ...]
    near_misses: tuple[str, ...] = ()
    overlaps: frozenset[str] = frozenset()
    kin: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Area:
    """Concepts that are alternatives to one another.

    Attributes:
        domain: Policies that cover the whole area; empty where there is none.
        vague: Texts of the area that belong to no concept.
        outside: Conversations that belong to none of its concepts, nor to the area.
        mixes: Whether its concepts may stand beside other areas' without being right for their requests too.
    """

    name: str
    source: str
    concepts: tuple[Concept, ...]
    domain: tuple[Policy, ...] = ()
    vague: tuple[str, ...] = ()
    outside: tuple[Conversation, ...] = ()
    mixes: bool = True


@dataclass(frozen=True)
class Corpus:
    """Areas to learn from, to choose by, and to look at once."""

    train: list[Area] = field(default_factory=list)
    validation: list[Area] = field(default_factory=list)
    test: list[Area] = field(default_factory=list)


def read_corpus(public: Path) -> Corpus:
    """All sources, split.

    Args:
        public: The directory with the public data sets' files.
    """
    corpus = Corpus()
    splits = yaml.safe_load((WRITTEN / "splits.yaml").read_text(encoding="utf-8"))
    for file in sorted([*WRITTEN.glob("*.yaml"), *(WRITTEN / "boards").glob("*.yaml")]):
        if file.name != "splits.yaml":
            split = next((name for name in ("validation", "test") if file.stem in splits[name]), "train")
            getattr(corpus, split).append(_written(file, mixes=file.stem not in splits["do_not_mix"]))
    held_out = set(splits["public_validation"])
    for area in [*_intents(public), _dialogues(public)]:
        for part, chosen in ((corpus.train, False), (corpus.validation, True)):
            concepts = tuple(concept for concept in area.concepts if (concept.key in held_out) is chosen)
            if concepts:
                part.append(Area(area.name, area.source, concepts, outside=area.outside))
    return corpus


def _written(file: Path, *, mixes: bool) -> Area:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    concepts = []
    for entry in document["concepts"]:
        requests = [_conversation(said) for said in (*entry["requests"], *entry["conversations"])]
        concepts.append(
            Concept(
                key=entry["id"],
                wordings=_policies(entry["policies"]),
                requests=tuple(requests),
                near_misses=tuple(entry["near_misses"]),
                overlaps=frozenset(entry.get("overlaps", [])),
            )
        )
    return Area(
        name=file.stem,
        source="written",
        concepts=tuple(concepts),
        domain=_policies(document["domain"]),
        vague=tuple(document["vague"]),
        outside=tuple(map(_conversation, document["outside"])),
        mixes=mixes,
    )


def _conversation(said: str | list[dict[str, str]]) -> Conversation:
    return Conversation.from_text(said) if isinstance(said, str) else Conversation.from_messages(said)


def _policies(entries: list[dict[str, str]]) -> tuple[Policy, ...]:
    return tuple(Policy(entry["name"].strip(), entry["description"]) for entry in entries)


def _intents(public: Path) -> list[Area]:
    texts = json.loads((public / "out_of_scope.json").read_text(encoding="utf-8"))["oos_train"]
    outside = tuple(map(Conversation.from_text, texts))
    further = yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))
    concepts: dict[str, list[Concept]] = {}
    for line in (public / "intents.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        requests = tuple(
            Conversation.from_text(text) for text in [*entry["train"], *entry.get("val", [])] if text.strip()
        )
        name, source = entry["policy"], entry["source"]
        wordings = [Policy(name, text) for text in (entry["description"], *further[source].get(name, ()))]
        concepts.setdefault(source, []).append(Concept(name, tuple(wordings), requests))
    return [
        Area(source, source, tuple(found), outside=outside if source == "clinc150" else ())
        for source, found in concepts.items()
    ]


def _dialogues(public: Path) -> Area:
    """The services; those that do the same (`find_bus` of two services, say) are never alternatives to one another."""
    entries = [json.loads(line) for line in (public / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = [f"{entry['domain']}/{entry['policy']}/{number}" for number, entry in enumerate(entries)]
    concepts = []
    for entry, key in zip(entries, keys, strict=True):
        alike = {
            other_key
            for other, other_key in zip(entries, keys, strict=True)
            if other_key != key and _operation(other) == _operation(entry)
        }
        wordings = [
            Policy(name, text)
            for name, text in zip(entry["names"], entry["descriptions"], strict=True)
            if name.strip() and text.strip()
        ]
        requests = tuple(Conversation.from_messages(case["conversation"]) for case in entry["train"])
        kin = {other_key for other, other_key in zip(entries, keys, strict=True) if other["domain"] == entry["domain"]}
        concepts.append(Concept(key, tuple(wordings), requests, overlaps=frozenset(alike), kin=frozenset(kin)))
    return Area("sgd", "sgd", tuple(concepts))


def _operation(entry: dict[str, str]) -> tuple[str, str]:
    """What a service does, so that two services of the same kind compare equal."""
    if entry["domain"] == "music":
        return "music", entry["policy"].split("_")[0]
    if entry["policy"] == "find_movies":
        return "movies", "find_movies"
    return entry["domain"], entry["policy"]
