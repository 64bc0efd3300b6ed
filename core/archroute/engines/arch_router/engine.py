"""Arch-Router as an engine: the possible answers go through the model with the prompt instead of being generated."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from archroute.conversation import Conversation, Turn
from archroute.engines.arch_router.answers import AnswerTrie
from archroute.engines.arch_router.checkpoint import Checkpoint
from archroute.engines.arch_router.model import Qwen2, Shape
from archroute.engines.arch_router.prefix_cache import PrefixCache, common_prefix
from archroute.engines.arch_router.reader import WHOLE_TRIE, PromptReader, Question, Reading
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

_SEAM = 2  # tokens before the fixed text that may hold a part of it: the next turn's differ


class ArchRouterEngine(Engine):
    """Scores policies with a Qwen2-architecture checkpoint that was tuned on Arch-Router's prompt.

    The answer is one of few known strings, so none is generated: a trie of all answers, in every spelling the model uses, follows the
    prompt, and one forward pass with a tree mask gives each answer's exact probability; of a larger trie, only the branches where an
    answer may lie are read, in a second, short pass. The policies, and the turns of a conversation that were read before, are not
    read again.

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
        self._reader = PromptReader(model, self._cache)
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
        fastest_kernel, fastest = fastest_on(place)
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
        for table in ("_vocab", "_merges"):  # fifty megabytes that the tokenizer's compiled half holds itself
            vars(tokenizer).pop(table, None)
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

    @property
    def tokens_read(self) -> int:
        """How many tokens have gone through the model so far: what decisions cost."""
        return self._reader.tokens_read

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
                self._reader.read(readings, fast=self.fast)
        except RuntimeError as error:
            raise EngineError(f"{self.name} failed on {len(readings)} conversations: {error}") from error
        return [self._scores(reading) for reading in readings]

    def edge_log_probabilities(self, prompts: Sequence[list[int]], routes: Sequence[Policy]) -> Tensor:
        """Natural log of the probability of every edge of the answers' trie after every prompt: [prompts, edges].

        Exact for nodes that an answer reaches with a probability of at least a hundred-thousandth of all answers'; of other nodes'
        edges, their shares among each other, and of nodes that were not read, equal ones.
        """
        readings = [Reading(self.question(tuple(routes)), list(prompt)) for prompt in prompts]
        with self._passing, torch.inference_mode():
            self._reader.read(readings, fast=self.fast)
        return torch.stack([reading.edges for reading in readings])

    def tokens(self, routes: Sequence[Policy], conversation: Conversation) -> list[int]:
        """The prompt's tokens, chat template included: what the model reads before it answers.

        The rendered text is tokenised as one string; cut at a border of its parts it would give other tokens.
        """
        message = {"role": "user", "content": self._plain(render(routes, conversation, self.prompt))}
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
            first=trie.whole if len(trie) <= WHOLE_TRIE else trie.stem,
            limit=min(limit, self._model.shape.context - trie.depth),
            policies=tuple(one[: common_prefix(one, two)]),
            tail=common_prefix(one[::-1], two[::-1]) + _SEAM,
        )

    def _fitted(self, routes: tuple[Policy, ...], conversation: Conversation) -> Reading:
        question = self.question(routes)
        measured: dict[tuple[Turn, ...], list[int]] = {}

        def measure(part: Conversation) -> int:
            measured[part.turns] = self.tokens(routes, part)
            return len(measured[part.turns])

        fitted = conversation.fit(measure, question.limit)
        return Reading(question, measured[fitted.turns], fitted.truncated)

    def _scores(self, reading: Reading) -> Scores:
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


def may_be_fast(compute: Compute, *, safe: bool) -> bool:
    """Whether activations may be rounded to int8, where fast decisions were, or were not, found to be the same."""
    return compute == "fast" or (compute == "auto" and safe)
