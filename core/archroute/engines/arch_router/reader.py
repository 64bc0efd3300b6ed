"""Reading prompts and the answers behind them: what was read before is taken over, the rest goes through the model packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from archroute.engines.arch_router.answers import AnswerTrie, Branch
from archroute.engines.arch_router.model import Qwen2, Segment
from archroute.engines.arch_router.prefix_cache import KeyValues, PrefixCache, common_prefix

WHOLE_TRIE = 48
"""Nodes; a larger trie is read in steps, the first one with the prompt: a short pass costs about as much as so many more tokens."""

_STEP = 96  # nodes that are asked for in a later step, at most
_PASS_TOKENS = 1024  # new tokens that one pass reads at most, if they belong to several conversations

_LEFT_OUT = 5e-4  # of the answers' probability, that branches which are not read may have together

# Where the model would say something else than an answer even more surely, the branches to read are those it prefers among each other.
_LEAST_COVERAGE = 1e-3

# At a node that answers pass through with less than this, what else the model might have said there does not matter.
_NEGLIGIBLE = 1e-5
_TAKEN_ALONG = 1e-6  # once one node is not negligible: what may turn out not to be either


@dataclass(frozen=True, eq=False)
class Question:
    """What all conversations over the same policies share.

    Attributes:
        trie: All answers.
        first: What is read of the trie in the pass that reads the prompt: all of it, or its stem if it is large.
        limit: What the prompt may have, in tokens.
        policies: The prompt's tokens up to the conversation.
        tail: How many tokens stand behind the conversation, or at its end will not stand there in the next turn.
    """

    trie: AnswerTrie
    first: Branch
    limit: int
    policies: tuple[int, ...]
    tail: int


@dataclass(frozen=True)
class Shares:
    """Nodes whose edges were compared with each other, but not yet with the rest of the vocabulary.

    Attributes:
        nodes: Node numbers. Shape [nodes].
        states: Their hidden states. Shape [nodes, hidden].
        edges: The edges that leave them. Shape [edges].
        rows: The place among the nodes of each edge's. Shape [edges].
        sums: Natural log of the sum of each node's edges' exponentiated scores. Shape [nodes].
    """

    nodes: Tensor
    states: Tensor
    edges: Tensor
    rows: Tensor
    sums: Tensor

    def where(self, chosen: Tensor) -> Shares:
        """Those of some of the nodes; chosen: [nodes], bool."""
        kept = chosen[self.rows]
        numbers = chosen.cumsum(0) - 1
        states = self.states[chosen.to(self.states.device)]
        return Shares(self.nodes[chosen], states, self.edges[kept], numbers[self.rows[kept]], self.sums[chosen])


@dataclass
class Reading:
    """One conversation on its way through the model.

    Attributes:
        question: What it is asked.
        tokens: The whole prompt.
        truncated: Whether the conversation was cut.
        past: Keys and values of what is read already: of the policies, then of the conversation.
        edges: Log probability of every edge of the trie given its node; of nodes that are not read, a guess.
        read: Nodes of the trie that were read.
        shares: Of what was read, that of which the edges' probabilities are still only shares among each other.
    """

    question: Question
    tokens: list[int]
    truncated: bool = False
    past: list[KeyValues] = field(default_factory=list)
    edges: Tensor = field(init=False)
    read: set[int] = field(default_factory=set)
    shares: list[Shares] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edges = self.question.trie.unread()

    @property
    def done(self) -> int:
        """How many of the tokens are read."""
        return sum(len(piece) for piece in self.past)

    @property
    def reach(self) -> Tensor:
        """Natural log of the probability that an answer passes through each node, among the answers: [nodes]."""
        trie = self.question.trie
        coverage = trie.probabilities(self.edges).sum().clamp_min(_LEAST_COVERAGE)
        return trie.reach(self.edges) - coverage.log()


class PromptReader:
    """Reads prompts with a model and a cache. One call at a time.

    Args:
        model: The decoder.
        cache: What was read before.

    Attributes:
        tokens_read: How many tokens have gone through the model.
    """

    def __init__(self, model: Qwen2, cache: PrefixCache) -> None:
        self.tokens_read = 0
        self._model = model
        self._cache = cache

    def read(self, readings: Sequence[Reading], *, fast: bool = False) -> None:
        """Read all prompts and the answers behind them, and fill in the edges' log probabilities.

        Args:
            readings: The conversations.
            fast: Whether activations may be rounded to int8.
        """
        questions = dict.fromkeys(reading.question for reading in readings)
        policies = {question: self._policies(question, fast) for question in questions}
        for reading in readings:
            self._recall(reading, policies[reading.question], fast)
        asked = [(reading, reading.question.first) for reading in readings]
        for pack in _packs(asked):
            self._pass(pack, fast)
        for reading in readings:
            self._remember(reading)
        # A trie too large for that pass is followed further, where an answer may still lie.
        while (asked := _further(readings)) or self._compare(readings):
            for pack in _packs(asked):
                self._pass(pack, fast)

    def _policies(self, question: Question, fast: bool) -> KeyValues:
        """Keys and values of the prompt up to the conversation."""
        known = self._cache.longest("policies", question.policies)
        if known is not None and len(known) == len(question.policies):
            return known
        reading = Reading(question, list(question.policies), past=[known] if known is not None else [])
        self._advance(reading, len(reading.tokens), fast)
        whole = KeyValues.joined(reading.past)
        self._cache.add("policies", question.policies, whole)
        return whole

    def _recall(self, reading: Reading, policies: KeyValues, fast: bool) -> None:
        """Take over what is known of the prompt, and read all that is too long for the last pass."""
        question = reading.question
        common = common_prefix(question.policies, tuple(reading.tokens))
        reading.past = [policies.first(common)]
        end = len(reading.tokens) - question.tail
        known = self._cache.longest((question.policies, common), reading.tokens[common:end])
        if known is not None:
            reading.past.append(known)
        self._advance(reading, end, fast, whole_passes=True)

    def _advance(self, reading: Reading, end: int, fast: bool, *, whole_passes: bool = False) -> None:
        """Read the prompt's tokens up to `end`, or only as many as fill whole passes, keeping their keys and values."""
        while reading.done < end and (not whole_passes or end - reading.done >= _PASS_TOKENS):
            start = reading.done
            segment = _segment(reading, min(end, start + _PASS_TOKENS), None, self._model.device)
            _, (new,) = self._forward([segment], fast)
            reading.past.append(new)

    def _remember(self, reading: Reading) -> None:
        """Keep what was read of the conversation, but not of the fixed text behind it, for its next turn."""
        question, common = reading.question, len(reading.past[0])
        conversation = reading.tokens[common : len(reading.tokens) - question.tail]
        if conversation:
            read = KeyValues.joined(reading.past[1:]).first(len(conversation))
            self._cache.add((question.policies, common), conversation, read.alone())

    def _pass(self, asked: Sequence[tuple[Reading, Branch]], fast: bool) -> None:
        """Read what is left of each prompt and a branch of the answers behind it."""
        segments = [_segment(reading, len(reading.tokens), branch, self._model.device) for reading, branch in asked]
        hidden, new = self._forward(segments, fast)
        for (reading, branch), read, states in zip(
            asked, new, torch.split(hidden, [len(one) for one in new]), strict=True
        ):
            left = len(reading.tokens) - reading.done
            # The root is the prompt's last token, read in the first pass.
            nodes = [0, *branch.nodes] if left else list(branch.nodes)
            self._judge(reading, nodes, states[-len(nodes) :])
            if left:
                reading.past.append(read.first(left))

    def _forward(self, segments: Sequence[Segment], fast: bool) -> tuple[Tensor, list[KeyValues]]:
        self.tokens_read += sum(len(segment.tokens) for segment in segments)
        return self._model.forward(segments, fast=fast)

    def _judge(self, reading: Reading, nodes: Sequence[int], states: Tensor) -> None:
        """Fill in the log probabilities of the edges that leave the nodes just read, for now among each other.

        Args:
            reading: The conversation.
            nodes: What was just read of its trie.
            states: Their hidden states: [nodes, hidden].
        """
        trie = reading.question.trie
        new = [row for row, node in enumerate(nodes) if node not in reading.read]  # without ancestors read once more
        nodes, states = [nodes[row] for row in new], states[new]
        place = torch.full((len(trie) + 1,), -1)
        place[nodes] = torch.arange(len(nodes))
        edges = (place[trie.edge_nodes] >= 0).nonzero().flatten()
        rows = place[trie.edge_nodes[edges]]
        logits = self._model.logits(states, rows.to(states.device), trie.edge_tokens[edges].to(states.device)).cpu()
        largest = torch.full((len(nodes),), float("-inf")).scatter_reduce_(0, rows, logits, "amax")
        sums = torch.zeros(len(nodes)).index_add_(0, rows, (logits - largest[rows]).exp()).log() + largest
        reading.edges[edges] = (logits - sums[rows]).double()
        reading.shares.append(Shares(torch.tensor(nodes), states, edges, rows, sums))
        reading.read.update(nodes)

    def _compare(self, readings: Sequence[Reading]) -> bool:
        """Where it matters, count in what else the model might have said at a node; whether it mattered anywhere.

        The head is not run over the vocabulary for every node: the shares of a node's edges among each other need their rows alone, and
        bound how likely an answer is to pass through it.
        """
        waiting = [
            (reading, shares, reading.reach[shares.nodes].exp()) for reading in readings for shares in reading.shares
        ]
        if not any((reach > _NEGLIGIBLE).any() for _, _, reach in waiting):
            return False
        for reading in readings:
            reading.shares = []
        counted: list[tuple[Reading, Shares]] = []
        for reading, shares, reach in waiting:
            reading.shares.append(shares.where(reach <= _TAKEN_ALONG))
            counted.append((reading, shares.where(reach > _TAKEN_ALONG)))
        sizes = [len(shares.nodes) for _, shares in counted]
        starts = [0, *accumulate(sizes)]
        states = torch.cat([shares.states for _, shares in counted])
        rows = torch.cat([shares.rows + start for (_, shares), start in zip(counted, starts, strict=False)])
        tokens = torch.cat([reading.question.trie.edge_tokens[shares.edges] for reading, shares in counted])
        # The scores of the answers' own tokens are float32; the rest of the vocabulary may be summed in a coarser type.
        rest = self._model.log_rest(states, rows.to(states.device), tokens.to(states.device)).cpu()
        for (reading, shares), others in zip(counted, torch.split(rest, sizes), strict=True):
            growth = torch.logaddexp(shares.sums, others) - shares.sums
            reading.edges[shares.edges] -= growth[shares.rows].double()
        return True


def _segment(reading: Reading, end: int, branch: Branch | None, device: torch.device) -> Segment:
    """The prompt's unread tokens up to `end`, and the answers' behind them."""
    start = reading.done
    count = end - start
    tokens = torch.tensor(reading.tokens[start:end], dtype=torch.long)
    positions = torch.arange(start, end)
    unseen = torch.ones(count, count, dtype=torch.bool).triu(1)
    if branch is not None:
        tokens = torch.cat([tokens, branch.tokens])
        positions = torch.cat([positions, end - 1 + branch.depths])
        whole = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        whole[:count, :count] = unseen
        whole[:count, count:] = True
        whole[count:, count:] = branch.unseen
        unseen = whole
    return Segment(tokens.to(device), positions.to(device), unseen.to(device), tuple(reading.past))


def _further(readings: Iterable[Reading]) -> list[tuple[Reading, Branch]]:
    """The branches behind the nodes read so far through which an answer may pass."""
    found = []
    for reading in readings:
        trie, reach = reading.question.trie, reading.reach
        frontier = [
            target
            for node, target in zip(trie.edge_nodes.tolist(), trie.edge_targets.tolist(), strict=True)
            if node in reading.read and target > 0 and target not in reading.read
        ]
        frontier.sort(key=lambda node: float(reach[node]))
        left_out = reach[frontier].exp().cumsum(0) <= _LEFT_OUT  # the least likely, as long as they are little together
        followed = frontier[int(left_out.sum()) :]
        if followed:
            found.append((reading, trie.branch(trie.below(followed[::-1], _STEP))))
    return found


def _packs(asked: Iterable[tuple[Reading, Branch]]) -> list[list[tuple[Reading, Branch]]]:
    """Conversations, each with answers to read, in runs that one pass can read."""
    packs: list[list[tuple[Reading, Branch]]] = []
    size = 0
    for reading, branch in asked:
        tokens = len(reading.tokens) - reading.done + len(branch.nodes)
        size += tokens
        if not packs or size > _PASS_TOKENS:
            packs.append([])
            size = tokens
        packs[-1].append((reading, branch))
    return packs
