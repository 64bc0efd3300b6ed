"""Reading prompts and the answers behind them: what was read before is taken over, the rest goes through the model packed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from archroute.engines.arch_router.answers import AnswerTrie, Branch
from archroute.engines.arch_router.model import Qwen2, Segment
from archroute.engines.arch_router.prefix_cache import KeyValues, PrefixCache, common_prefix

WHOLE_TRIE = 192
"""Nodes; a larger trie is read in steps, each of at most so many."""

STEM = 64
"""Nodes of a large trie that are read with the prompt: the levels that all answers share, and the first choices."""

_PASS_TOKENS = 1024  # new tokens that one pass reads at most, if they belong to several conversations

_LEFT_OUT = 5e-4  # of the answers' probability, that branches which are not read may have together

# At a node that answers pass through with less than this, what else the model might have said there does not matter.
_LOG_NEGLIGIBLE = math.log(1e-6)


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
    """

    question: Question
    tokens: list[int]
    truncated: bool = False
    past: list[KeyValues] = field(default_factory=list)
    edges: Tensor = field(default_factory=lambda: torch.empty(0))
    read: set[int] = field(default_factory=set)

    @property
    def done(self) -> int:
        """How many of the tokens are read."""
        return sum(len(piece) for piece in self.past)


class PromptReader:
    """Reads prompts with a model and a cache. One call at a time.

    Args:
        model: The decoder.
        cache: What was read before.
    """

    def __init__(self, model: Qwen2, cache: PrefixCache) -> None:
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
        for pack in _packs(readings):
            self._pass([(reading, reading.question.first) for reading in pack], fast)
        for reading in readings:
            self._remember(reading)
        # A trie too large for that pass is followed further, where an answer may still lie.
        waiting = list(readings)
        while waiting:
            promising = [(reading, _promising(reading)) for reading in waiting]
            further = [(reading, branch) for reading, branch in promising if branch]
            for pair in further:
                self._pass([pair], fast)
            waiting = [reading for reading, _ in further]

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
            _, (new,) = self._model.forward([segment], fast=fast)
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
        hidden, new = self._model.forward(segments, fast=fast)
        states, nodes, row = [], [], 0
        for (reading, branch), read in zip(asked, new, strict=True):
            left = len(reading.tokens) - reading.done
            end = row + left + len(branch.nodes)
            # The root is the prompt's last token, read in the first pass.
            states.append(hidden[row + left - bool(left) : end])
            nodes.append([0, *branch.nodes] if left else list(branch.nodes))
            row = end
            if left:
                reading.past.append(read.first(left))
        self._judge([reading for reading, _ in asked], nodes, torch.cat(states))

    def _judge(self, readings: Sequence[Reading], nodes: Sequence[list[int]], states: Tensor) -> None:
        """Fill in the log probabilities of the edges that leave the nodes just read.

        The head is not run over the vocabulary for every node: the shares of a node's edges among each other need their rows alone, and
        bound how likely an answer is to pass through it. Only where that is not negligible does the whole vocabulary matter.

        Args:
            readings: The conversations.
            nodes: What was just read of each one's trie.
            states: The nodes' hidden states, packed in order: [sum of nodes, hidden].
        """
        found: list[tuple[Reading, Tensor, Tensor]] = []  # reading, its edges, their rows among the states
        row = 0
        for reading, read in zip(readings, nodes, strict=True):
            trie = reading.question.trie
            where = torch.full((len(trie) + 1,), -1)
            where[read] = torch.arange(row, row + len(read))
            edges = (where[trie.edge_nodes] >= 0).nonzero().flatten()
            found.append((reading, edges, where[trie.edge_nodes[edges]]))
            reading.read.update(read)
            row += len(read)
        rows = torch.cat([at for _, _, at in found])
        tokens = torch.cat([reading.question.trie.edge_tokens[edges] for reading, edges, _ in found])
        logits = self._model.logits(states, rows.to(states.device), tokens.to(states.device)).cpu()
        pieces = torch.split(logits, [len(at) for _, _, at in found])
        largest = torch.full((row,), float("-inf")).scatter_reduce_(0, rows, logits, "amax")
        sums = torch.zeros(row).index_add_(0, rows, (logits - largest[rows]).exp()).log() + largest
        likely = torch.zeros(row, dtype=torch.bool)
        for (reading, edges, at), piece in zip(found, pieces, strict=True):
            trie = reading.question.trie
            if not len(reading.edges):
                reading.edges = trie.unread()
            reading.edges[edges] = (piece - sums[at]).double()
            likely[at] = trie.reach(reading.edges)[trie.edge_nodes[edges]] > _LOG_NEGLIGIBLE
        # The scores of the answers' own tokens are float32 already; the rest of the vocabulary may be summed in a coarser type.
        numbers = torch.cumsum(likely, 0) - 1
        pairs = likely[rows]
        device = states.device
        rest = self._model.log_rest(
            states[likely.to(device)], numbers[rows[pairs]].to(device), tokens[pairs].to(device)
        )
        sums[likely] = torch.logaddexp(sums[likely], rest.cpu())
        for (reading, edges, at), piece in zip(found, pieces, strict=True):
            reading.edges[edges] = (piece - sums[at]).double()


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


def _promising(reading: Reading) -> Branch | None:
    """The branches behind the nodes read so far through which an answer may pass, or None if there are none."""
    trie = reading.question.trie
    if len(reading.read) > len(trie):
        return None
    reach = trie.reach(reading.edges)
    reach = reach - trie.probabilities(reading.edges).sum().log()  # among the answers
    frontier = [
        target
        for node, target in zip(trie.edge_nodes.tolist(), trie.edge_targets.tolist(), strict=True)
        if node in reading.read and target > 0 and target not in reading.read
    ]
    frontier.sort(key=lambda node: float(reach[node]))
    left_out = reach[frontier].exp().cumsum(0) <= _LEFT_OUT  # the least likely, as long as they are little together
    followed = frontier[int(left_out.sum()) :]
    return trie.branch(trie.below(followed[::-1], WHOLE_TRIE)) if followed else None


def _packs(readings: Iterable[Reading]) -> list[list[Reading]]:
    """The conversations in runs that one pass can read, each with its answers."""
    packs: list[list[Reading]] = []
    size = 0
    for reading in readings:
        tokens = len(reading.tokens) - reading.done + len(reading.question.first.nodes)
        size += tokens
        if not packs or size > _PASS_TOKENS:
            packs.append([])
            size = tokens
        packs[-1].append(reading)
    return packs
