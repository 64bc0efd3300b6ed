"""The answers a model may give, as a tree of tokens: shared beginnings are read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class AnswerTrie:
    """A token trie over every spelling of every answer.

    Node 0 is the root: the prompt's last token. Every other node is a token that the model reads; an answer's last token is only ever
    predicted, so it is an edge without a node. An answer thus is a path of edges `(node, token)`.

    Args:
        answers: Label → the token sequences that spell it. A sequence may begin another one; both are told apart, since a
            sequence's probability is that of all its tokens.

    Attributes:
        tokens: Token of every node but the root, parents first. Shape [nodes - 1].
        parents: Parent of every node but the root. Shape [nodes - 1].
        depths: Distance from the root of every node but it, from 1. Shape [nodes - 1].
        edge_nodes: The node every edge leaves. Shape [edges].
        edge_tokens: The token of every edge. Shape [edges].
        labels: Labels, in the order given.
    """

    def __init__(self, answers: Mapping[str, Sequence[Sequence[int]]]) -> None:
        self.labels = tuple(answers)
        nodes: dict[tuple[int, ...], int] = {(): 0}
        edges: dict[tuple[int, int], int] = {}
        tokens, parents, depths, paths, owners = [], [], [], [], []
        for owner, spellings in enumerate(answers.values()):
            for spelling in spellings:
                path = []
                for depth, token in enumerate(spelling):
                    prefix = tuple(spelling[:depth])
                    if prefix not in nodes:
                        nodes[prefix] = len(nodes)
                        tokens.append(prefix[-1])
                        parents.append(nodes[prefix[:-1]])
                        depths.append(depth)
                    path.append(edges.setdefault((nodes[prefix], token), len(edges)))
                paths.append(path)
                owners.append(owner)
        self.tokens = torch.tensor(tokens, dtype=torch.long)
        self.parents = torch.tensor(parents, dtype=torch.long)
        self.depths = torch.tensor(depths, dtype=torch.long)
        self.edge_nodes = torch.tensor([node for node, _ in edges], dtype=torch.long)
        self.edge_tokens = torch.tensor([token for _, token in edges], dtype=torch.long)
        self._paths = torch.zeros(len(paths), len(edges))  # [spellings, edges], 1 where the path takes the edge
        for number, path in enumerate(paths):
            self._paths[number, path] = 1
        self._owners = torch.tensor(owners, dtype=torch.long)

    def __len__(self) -> int:
        """Nodes, the root not counted: tokens that a pass reads beyond the prompt."""
        return len(self.tokens)

    def ancestry(self) -> Tensor:
        """Whether a node sees another: itself and its ancestors, the root left out. Shape [nodes - 1, nodes - 1], bool."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for row, parent in enumerate(self.parents.tolist()):
            if parent:
                seen[row] |= seen[parent - 1]
        return seen

    def probabilities(self, edge_logprobs: Tensor) -> Tensor:
        """Each label's probability: the sum over its spellings of the product of their edges'.

        Args:
            edge_logprobs: Natural log of each edge's probability given its node. Shape [..., edges].

        Returns:
            Shape [..., labels]; sums to the coverage, at most 1.
        """
        spellings = (edge_logprobs.double() @ self._paths.double().T).exp()
        totals = spellings.new_zeros(*spellings.shape[:-1], len(self.labels))
        return totals.index_add(-1, self._owners, spellings)
