"""Which concepts of different areas say nearly the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.comparison import Comparison
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Reader
from archroute.policy import Policy
from training.embedded.sources import Area
from training.embedded.tensors import base_directory, initial, quickened

ALIKE = 0.62
"""The cosine from which two areas' concepts are never offered together."""


def alike_pairs(areas: Sequence[Area]) -> frozenset[tuple[str, str]]:
    """`alike_concepts` as all-MiniLM-L6-v2 sees them."""
    reader = Reader(Tokenizer.from_file(str(base_directory() / "tokenizer.json")))
    return alike_concepts(initial(0), reader, areas)


@torch.inference_mode()
def alike_concepts(tensors: Mapping[str, Tensor], reader: Reader, areas: Sequence[Area]) -> frozenset[tuple[str, str]]:
    """Pairs `AREA/KEY` of written concepts of different areas whose descriptions are near to one another for the encoder."""
    concepts = [(area.name, concept) for area in areas if area.source == "written" for concept in area.concepts]
    if not concepts:
        return frozenset()
    texts = [reader.policy(Policy("_", policy.description)) for _, concept in concepts for policy in concept.wordings]
    comparison = Comparison(tensors)
    read = Encoder(quickened(tensors)).read(texts)
    vectors = torch.stack([comparison.embedding(*one).vector for one in zip(read, texts, strict=True)])
    means = [part.mean(dim=0) for part in vectors.split_with_sizes([len(concept.wordings) for _, concept in concepts])]
    normed = functional.normalize(torch.stack(means), dim=1)
    pairs = (normed @ normed.T > ALIKE).nonzero().tolist()
    names = [f"{area}/{concept.key}" for area, concept in concepts]
    return frozenset((names[one], names[other]) for one, other in pairs if concepts[one][0] != concepts[other][0])
