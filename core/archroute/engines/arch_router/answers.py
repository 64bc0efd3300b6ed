"""The answers a model may give, as a tree of tokens: shared beginnings are read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_STEM = 8  # through a node of the stem passes one in so many spellings, or more
_WORTH = 8  # a node that fewer than one in so many answers would pass through is not read ahead of the choice


@dataclass(frozen=True)
class Branch:
    """Some nodes of a trie, in a form that a pass can read after a prompt.

    Attributes:
        nodes: Node numbers, parents before children; ancestors are all among them, but for the root.
        tokens: Their tokens. Shape [nodes].
        depths: Their distance from the root, from 1. Shape [nodes].
        unseen: Where a node (row) does not see another (column): all but itself and its ancestors. Shape [nodes, nodes], bool.
    """

    nodes: tuple[int, ...]
    tokens: Tensor
    depths: Tensor
    unseen: Tensor


class AnswerTrie:
    """A token trie over every spelling of every answer.

    Node 0 is the root: the prompt's last token. Every other node is a token that the model reads; an answer's last token is only ever
    predicted, so it is an edge without a node. An answer thus is a path of edges `(node, token)`.

    Args:
        answers: Label → the token sequences that spell it, each closed by what ends an answer: a sequence that began another
            one would count for both.

    Attributes:
        labels: Labels, in the order given.
        edge_nodes: The node every edge leaves. Shape [edges].
        edge_tokens: The token of every edge. Shape [edges].
        edge_targets: The node every edge leads to, -1 where an answer ends. Shape [edges].
        whole: All nodes.
        stem: The nodes that many answers share.
    """

    def __init__(self, answers: Mapping[str, Sequence[Sequence[int]]]) -> None:
        self.labels = tuple(answers)
        nodes: dict[tuple[int, ...], int] = {(): 0}
        edges: dict[tuple[int, int], int] = {}
        self._tokens, self._parents, self._depths = [-1], [-1], [0]
        paths, owners = [], []
        for owner, spellings in enumerate(answers.values()):
            for spelling in spellings:
                path = []
                for depth, token in enumerate(spelling):
                    prefix = tuple(spelling[:depth])
                    if prefix not in nodes:
                        nodes[prefix] = len(nodes)
                        self._tokens.append(prefix[-1])
                        self._parents.append(nodes[prefix[:-1]])
                        self._depths.append(depth)
                    path.append(edges.setdefault((nodes[prefix], token), len(edges)))
                paths.append(path)
                owners.append(owner)
        targets = {(self._parents[node], self._tokens[node]): node for node in range(1, len(nodes))}
        self.edge_nodes = torch.tensor([node for node, _ in edges], dtype=torch.long)
        self.edge_tokens = torch.tensor([token for _, token in edges], dtype=torch.long)
        self.edge_targets = torch.tensor([targets.get(edge, -1) for edge in edges], dtype=torch.long)
        self._children: list[list[int]] = [[] for _ in nodes]
        for node in range(1, len(nodes)):
            self._children[self._parents[node]].append(node)
        self._owners = torch.tensor(owners, dtype=torch.long)  # the label of every spelling
        # An edge of no weight stands where a path is shorter than the longest.
        self._paths = _padded(paths, len(edges))  # [spellings, longest]
        reached = {target: edge for edge, target in enumerate(self.edge_targets.tolist()) if target > 0}
        ways: list[list[int]] = [[]]
        for node in range(1, len(nodes)):
            ways.append([*ways[self._parents[node]], reached[node]])
        self._ways = _padded(ways, len(edges))  # [nodes, longest]
        self._width = torch.bincount(self.edge_nodes, minlength=len(nodes))
        self.whole = self.branch(range(1, len(nodes)))
        passing = torch.bincount(self.edge_nodes[[edge for path in paths for edge in path]])
        self.stem = self.branch((passing * _STEM >= len(paths)).nonzero().flatten().tolist())

    def __len__(self) -> int:
        """Nodes, the root not counted: tokens that a pass reads beyond the prompt."""
        return len(self._tokens) - 1

    @property
    def depth(self) -> int:
        """How many tokens the deepest node stands behind the prompt."""
        return max(self._depths)

    def branch(self, nodes: Iterable[int]) -> Branch:
        """The given nodes and all their ancestors, for a pass to read."""
        wanted: set[int] = set()
        for node in nodes:
            while node > 0 and node not in wanted:
                wanted.add(node)
                node = self._parents[node]
        order = sorted(wanted)  # parents have smaller numbers
        place = {node: row for row, node in enumerate(order)}
        unseen = torch.ones(len(order), len(order), dtype=torch.bool)
        for row, node in enumerate(order):
            if self._parents[node]:
                unseen[row] = unseen[place[self._parents[node]]]
            unseen[row, row] = False
        return Branch(
            nodes=tuple(order),
            tokens=torch.tensor([self._tokens[node] for node in order], dtype=torch.long),
            depths=torch.tensor([self._depths[node] for node in order], dtype=torch.long),
            unseen=unseen,
        )

    def below(self, nodes: Iterable[int], most: int) -> list[int]:
        """Up to `most` nodes from the given ones downwards, level by level, as far as they are worth reading before more is known.

        That is judged as if all choices were alike.
        """
        found: list[int] = []
        level = [(node, 1.0) for node in nodes]
        while level and len(found) < most:
            found += [node for node, _ in level][: most - len(found)]
            level = [
                (child, share / len(self._children[node]))
                for node, share in level
                for child in self._children[node]
                if share / len(self._children[node]) >= 1 / _WORTH
            ]
        return found

    def unread(self) -> Tensor:
        """Edge log probabilities for a trie no node of which is read: all edges of a node alike. Shape [edges]."""
        return -self._width[self.edge_nodes].double().log()

    def reach(self, edge_logprobs: Tensor) -> Tensor:
        """Natural log of the probability that an answer passes through each node: [..., edges] → [..., nodes]."""
        return _summed(edge_logprobs, self._ways)

    def probabilities(self, edge_logprobs: Tensor) -> Tensor:
        """Each label's probability: the sum over its spellings of the product of their edges'.

        Args:
            edge_logprobs: Natural log of each edge's probability given its node. Shape [..., edges].

        Returns:
            Shape [..., labels], float64; sums to the coverage, at most 1.
        """
        spellings = _summed(edge_logprobs, self._paths).exp()
        totals = spellings.new_zeros(*spellings.shape[:-1], len(self.labels))
        return totals.index_add(-1, self._owners, spellings)


def _padded(paths: list[list[int]], filler: int) -> Tensor:
    return pad_sequence(
        [torch.tensor(path, dtype=torch.long) for path in paths], batch_first=True, padding_value=filler
    )


def _summed(edge_logprobs: Tensor, paths: Tensor) -> Tensor:
    """The sum along each path: [..., edges], [paths, longest] → [..., paths], float64."""
    free = edge_logprobs.new_zeros(*edge_logprobs.shape[:-1], 1)
    return torch.cat([edge_logprobs, free], dim=-1).double()[..., paths].sum(dim=-1)
