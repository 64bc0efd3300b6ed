"""Arch-Router as an engine: the prompt and all possible answers go through the model in one pass."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from archroute.conversation import Conversation, Turn
from archroute.engines.arch_router.answers import AnswerTrie, Branch
from archroute.engines.arch_router.checkpoint import Checkpoint
from archroute.engines.arch_router.model import Qwen2, Segment, Shape
from archroute.engines.arch_router.prefix_cache import KeyValues, PrefixCache, common_prefix
from archroute.engines.base import CacheStats, Engine, Scores
from archroute.engines.linear import Kernel, fastest_on
from archroute.engines.memory import give_back
from archroute.errors import EngineError, ModelError, SettingError
from archroute.policy import OTHER, Policy
from archroute.prompt import PromptFormat, answers, check_form, render

Compute = Literal["auto", "exact", "fast"]
"""Whether activations keep their precision, may be rounded to int8, or may if the loaded checkpoint was found to decide the same."""

CONVERSATION_TOKENS = 2048
"""What the conversation may take of the prompt unless the user says otherwise: as much as the model saw in training."""

CACHE_BYTES = 256 * 2**20
"""What the keys and values of prompts read before may take, unless the user says otherwise."""

_PASS_TOKENS = 1024  # new tokens that one pass reads at most
_WHOLE_TRIE = 192  # nodes; a larger trie is read in steps, each of at most so many
_STEM = (
    64  # nodes of a large trie that are read with the prompt: the levels that all answers share, and the first choices
)
_UNLIKELY = 1e-4  # an answer that is less likely than this, among the answers, is not followed further
_SEAM = 2  # tokens before the fixed text that may hold a part of it: the next turn's differ
_NEGLIGIBLE = (
    1e-6  # at a node that an answer passes through with less, what else the model might have said does not matter
)


@dataclass(frozen=True)
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
class _Reading:
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


class ArchRouterEngine(Engine):
    """Scores policies with a Qwen2-architecture checkpoint that was tuned on Arch-Router's prompt.

    The answer is one of few known strings, so none is generated: a trie of all answers, in every spelling the model uses, follows the
    prompt, and one forward pass with a tree mask gives each answer's exact probability. The policies, and the turns of a
    conversation that were read before, are not read again.

    Args:
        model: The decoder.
        tokenizer: Its transformers tokenizer, with its chat template.
        name: What decisions call the model.
        prompt: Whose prompt to render: `"model_card"` or `"archgw"`.
        max_prompt_tokens: What the whole prompt may have, policies included, in tokens. None: as much as the policies take and 2,048
            for the conversation, at most the model's context.
        compute: `"exact"`, `"fast"`, or `"auto"`: fast if `fast_is_safe`.
        fast_is_safe: Whether fast decisions were found to be the same on this checkpoint; see `archroute.engines.arch_router.check`.
        cache_bytes: What the keys and values of prompts read before may take, in bytes.
    """

    def __init__(
        self,
        model: Qwen2,
        tokenizer: Any,
        *,
        name: str,
        prompt: PromptFormat = "model_card",
        max_prompt_tokens: int | None = None,
        compute: Compute = "auto",
        fast_is_safe: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        check_form(prompt)
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise SettingError(f"max_prompt_tokens={max_prompt_tokens}", hint="give a number of tokens, or None")
        if compute not in get_args(Compute):
            raise SettingError(f"compute={compute!r}", hint=f"use one of {', '.join(get_args(Compute))}")
        if cache_bytes < 0:
            raise SettingError(f"cache_bytes={cache_bytes}", hint="give a number of bytes; 0 turns the cache off")
        self.name = name
        self.prompt: PromptFormat = prompt
        self.max_prompt_tokens = max_prompt_tokens
        self.fast = may_be_fast(compute, safe=fast_is_safe)
        self._model = model
        self._tokenizer = tokenizer
        self._cache = PrefixCache(cache_bytes)
        # One pass at a time: it has all cores already, and two at once would only wait for each other.
        self._passing = threading.Lock()
        # A text of the user's that spells a control token must not become one.
        controls = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._controls = {control: f"{control[:1]} {control[1:]}" for control in controls}
        self.question = lru_cache(maxsize=64)(self._new_question)

    @classmethod
    def from_directory(
        cls,
        directory: Path,
        *,
        name: str | None = None,
        quantize: bool = True,
        dtype: torch.dtype | None = None,
        kernel: Kernel | None = None,
        device: torch.device | str = "cpu",
        prompt: PromptFormat = "model_card",
        max_prompt_tokens: int | None = None,
        compute: Compute = "auto",
        cache_bytes: int = CACHE_BYTES,
    ) -> ArchRouterEngine:
        """Load a checkpoint: one that `archroute pull` prepared is mapped, another is quantised to int8 as it is read.

        Args:
            directory: Holds `config.json`, safetensors and the tokenizer.
            name: What decisions call the model; None: the directory's name.
            quantize: False keeps the weights of a checkpoint that is not prepared as they are.
            dtype: The type of keys, values and raw products; None: the fastest on the device that the checkpoint's own type allows.
            kernel: How int8 weights are multiplied; None: as is fastest on the device, measured once a process.
            device: Where to decide.
            prompt: As in the constructor.
            max_prompt_tokens: As in the constructor.
            compute: As in the constructor.
            cache_bytes: As in the constructor.

        Raises:
            ModelError: The directory holds no usable checkpoint.
        """
        from transformers import AutoTokenizer

        checkpoint = Checkpoint(directory)
        place = torch.device(device)
        fastest_kernel, fastest = fastest_on(place, fast=may_be_fast(compute, safe=checkpoint.fast_is_safe))
        if dtype is None:
            dtype = torch.float32 if checkpoint.dtype == torch.float32 else fastest
        hint = "tokenizer.json and tokenizer_config.json with the chat template belong beside the weights"
        if not (directory / "tokenizer.json").is_file():  # transformers would make an empty one
            raise ModelError(f"{directory} has no tokenizer.json", hint=hint)
        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        except (OSError, ValueError) as error:
            raise ModelError(f"{directory} has no usable tokenizer: {error}", hint=hint) from error
        give_back()
        tensors = checkpoint.load(quantize=quantize, dtype=dtype, device=place)
        decoder = Qwen2(checkpoint.shape, tensors, kernel or fastest_kernel, dtype)
        give_back()
        return cls(
            decoder,
            tokenizer,
            name=name or directory.resolve().name,
            prompt=prompt,
            max_prompt_tokens=max_prompt_tokens,
            compute=compute,
            fast_is_safe=checkpoint.fast_is_safe,
            cache_bytes=cache_bytes,
        )

    @property
    def cache_stats(self) -> CacheStats:
        """See `Engine.cache_stats`."""
        return self._cache.stats

    @property
    def shape(self) -> Shape:
        """The model's sizes."""
        return self._model.shape

    def forget(self) -> None:
        """Empty the prefix cache."""
        self._cache.clear()

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            ConversationError: The policies leave no room for the conversation.
            EngineError: The pass failed, for instance for want of memory.
        """
        return self.score_each([(routes, conversation) for conversation in conversations])

    def score_each(self, asked: Sequence[tuple[Sequence[Policy], Conversation]]) -> list[Scores]:
        """See `Engine.score_each`; packed whatever the routes.

        Raises:
            As `score`.
        """
        readings = [self._fitted(tuple(routes), conversation) for routes, conversation in asked]
        try:
            with self._passing, torch.inference_mode():
                self._read(readings)
        except RuntimeError as error:
            raise EngineError(f"{self.name} failed on {len(readings)} conversations: {error}") from error
        return [self._scores(reading) for reading in readings]

    def edge_log_probabilities(self, prompts: Sequence[list[int]], routes: Sequence[Policy]) -> Tensor:
        """Natural log of the probability of every edge of the answers' trie after every prompt: [prompts, edges].

        Exact for nodes that an answer reaches with a probability of at least a millionth of all answers'; of other nodes' edges, their
        shares among each other.
        """
        readings = [_Reading(self.question(tuple(routes)), list(prompt)) for prompt in prompts]
        with self._passing, torch.inference_mode():
            self._read(readings)
        return torch.stack([reading.edges for reading in readings])

    def tokens(self, routes: Sequence[Policy], conversation: Conversation) -> list[int]:
        """The prompt's tokens, chat template included: what the model reads before it answers.

        The rendered text is tokenised as one string; cut at a border of its parts it would give other tokens.
        """
        plain_routes = [Policy(self._plain(route.name), self._plain(route.description)) for route in routes]
        turns = tuple(Turn(turn.role, self._plain(turn.content)) for turn in conversation.turns)
        message = {"role": "user", "content": render(plain_routes, Conversation(turns), self.prompt)}
        text = self._tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _plain(self, text: str) -> str:
        for control, harmless in self._controls.items():
            text = text.replace(control, harmless)
        return text

    def _new_question(self, routes: tuple[Policy, ...]) -> Question:
        trie = AnswerTrie(
            {
                name: [self._tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers(name)]
                for name in (*(route.name for route in routes), OTHER)
            }
        )
        # Two prompts that share nothing but the policies and the fixed text.
        one, two = (self.tokens(routes, Conversation.from_text(text)) for text in ("a", "Other words"))
        empty = self.tokens(routes, Conversation(()))
        limit = self.max_prompt_tokens or len(empty) + CONVERSATION_TOKENS
        return Question(
            trie=trie,
            first=trie.whole if len(trie) <= _WHOLE_TRIE else trie.branch(trie.below([0], _STEM)),
            limit=min(limit, self._model.shape.context - trie.depth),
            policies=tuple(one[: common_prefix(one, two)]),
            tail=common_prefix(one[::-1], two[::-1]) + _SEAM,
        )

    def _fitted(self, routes: tuple[Policy, ...], conversation: Conversation) -> _Reading:
        question = self.question(routes)
        measured: dict[tuple[Turn, ...], list[int]] = {}

        def measure(part: Conversation) -> int:
            measured[part.turns] = self.tokens(routes, part)
            return len(measured[part.turns])

        fitted = conversation.fit(measure, question.limit)
        return _Reading(question, measured[fitted.turns], fitted.truncated)

    def _scores(self, reading: _Reading) -> Scores:
        trie = reading.question.trie
        probabilities = trie.probabilities(reading.edges)
        coverage = float(probabilities.sum())
        if not 0 < coverage < float("inf"):
            raise EngineError(f"{self.name} gave no answer a probability (coverage {coverage})")
        shares = (probabilities / coverage).tolist()
        return Scores(
            probabilities=dict(zip(trie.labels, shares, strict=True)),
            coverage=min(coverage, 1.0),
            prompt_tokens=len(reading.tokens),
            truncated=reading.truncated,
        )

    def _read(self, readings: Sequence[_Reading]) -> None:
        """Read all prompts and the answers behind them, and fill in the edges' log probabilities."""
        for reading in readings:
            self._recall(reading)
        for pack in _packs(readings):
            self._pass([(reading, reading.question.first) for reading in pack])
        for reading in readings:
            self._remember(reading)
        # A trie too large for that pass is followed further, where an answer may still lie.
        waiting = list(readings)
        while waiting:
            promising = [(reading, _promising(reading)) for reading in waiting]
            further = [(reading, branch) for reading, branch in promising if branch]
            for pair in further:
                self._pass([pair])
            waiting = [reading for reading, _ in further]

    def _policies(self, question: Question) -> KeyValues:
        """Keys and values of the prompt up to the conversation."""
        known = self._cache.longest("policies", question.policies)
        if known is not None and len(known) == len(question.policies):
            return known
        reading = _Reading(question, list(question.policies), past=[known] if known is not None else [])
        self._advance(reading, len(reading.tokens))
        whole = _joined(reading.past)
        self._cache.add("policies", question.policies, whole)
        return whole

    def _recall(self, reading: _Reading) -> None:
        """Take over what is known of the prompt, and read all that is too long for the last pass."""
        question = reading.question
        common = common_prefix(question.policies, tuple(reading.tokens))
        reading.past = [self._policies(question).first(common)]
        end = len(reading.tokens) - question.tail
        known = self._cache.longest((question.policies, common), reading.tokens[common:end])
        if known is not None:
            reading.past.append(known)
        self._advance(reading, end, whole_passes=True)

    def _advance(self, reading: _Reading, end: int, *, whole_passes: bool = False) -> None:
        """Read the prompt's tokens up to `end`, or only as many as fill whole passes, keeping their keys and values."""
        while reading.done < end and (not whole_passes or end - reading.done >= _PASS_TOKENS):
            start = reading.done
            segment = self._segment(reading, min(end, start + _PASS_TOKENS), None)
            _, (new,) = self._model.forward([segment], fast=self.fast)
            reading.past.append(new)

    def _remember(self, reading: _Reading) -> None:
        """Keep what was read of the conversation, but not of the fixed text behind it, for its next turn."""
        question, common = reading.question, len(reading.past[0])
        conversation = reading.tokens[common : len(reading.tokens) - question.tail]
        if conversation:
            read = _joined(reading.past[1:]).first(len(conversation))
            self._cache.add((question.policies, common), conversation, read)

    def _pass(self, asked: Sequence[tuple[_Reading, Branch]]) -> None:
        """Read what is left of each prompt and a branch of the answers behind it."""
        segments = [self._segment(reading, len(reading.tokens), branch) for reading, branch in asked]
        hidden, new = self._model.forward(segments, fast=self.fast)
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

    def _judge(self, readings: Sequence[_Reading], nodes: Sequence[list[int]], states: Tensor) -> None:
        """Fill in the log probabilities of the edges that leave the nodes just read.

        The head is not run over the vocabulary for every node: the shares of a node's edges among each other need their rows alone, and
        bound how likely an answer is to pass through it. Only where that is not negligible does the whole vocabulary matter.

        Args:
            readings: The conversations.
            nodes: What was just read of each one's trie.
            states: The nodes' hidden states, packed in order: [sum of nodes, hidden].
        """
        found: list[tuple[_Reading, Tensor, Tensor]] = []  # reading, its edges, their rows among the states
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

    def _segment(self, reading: _Reading, end: int, branch: Branch | None) -> Segment:
        """The prompt's unread tokens up to `end`, and the answers' behind them."""
        start, device = reading.done, self._model.device
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


_LOG_NEGLIGIBLE, _LOG_UNLIKELY = math.log(_NEGLIGIBLE), math.log(_UNLIKELY)


def may_be_fast(compute: Compute, *, safe: bool) -> bool:
    """Whether activations may be rounded to int8, where fast decisions were, or were not, found to be the same."""
    return compute == "fast" or (compute == "auto" and safe)


def _promising(reading: _Reading) -> Branch | None:
    """The branches behind the nodes read so far through which an answer may pass, or None if there are none."""
    trie = reading.question.trie
    if len(reading.read) > len(trie):
        return None
    reach = trie.reach(reading.edges)
    reach = reach - trie.probabilities(reading.edges).sum().log()  # among the answers
    frontier = [
        target
        for node, target in zip(trie.edge_nodes.tolist(), trie.edge_targets.tolist(), strict=True)
        if node in reading.read and target > 0 and target not in reading.read and reach[target] > _LOG_UNLIKELY
    ]
    frontier.sort(key=lambda node: -float(reach[node]))
    return trie.branch(trie.below(frontier, _WHOLE_TRIE)) if frontier else None


def _joined(pieces: Sequence[KeyValues]) -> KeyValues:
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = joined.followed_by(piece)
    return joined


def _packs(readings: Iterable[_Reading]) -> list[list[_Reading]]:
    """The conversations in runs that one pass can read, each with its answers."""
    packs: list[list[_Reading]] = []
    size = 0
    for reading in readings:
        tokens = len(reading.tokens) - reading.done + len(reading.question.first.nodes)
        size += tokens
        if not packs or size > _PASS_TOKENS:
            packs.append([])
            size = tokens
        packs[-1].append(reading)
    return packs
