"""Arch-Router as an engine: the prompt and all possible answers go through the model in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archroute.conversation import Conversation, Turn
from archroute.engines.arch_router.answers import AnswerTrie
from archroute.engines.arch_router.checkpoint import Checkpoint
from archroute.engines.arch_router.model import Qwen2, Segment
from archroute.engines.base import Engine, Scores
from archroute.errors import EngineError, ModelError, SettingError
from archroute.policy import OTHER, Policy
from archroute.prompt import PromptFormat, answers, check_form, render

CONVERSATION_TOKENS = 2048
"""What the conversation may take of the prompt unless the user says otherwise: as much as the model saw in training."""

_PACKED_TOKENS = 4096  # tokens that one pass reads at most, unless a single conversation has more


class _Prompt(NamedTuple):
    tokens: list[int]
    truncated: bool


class _Question(NamedTuple):
    """What all conversations over the same policies share."""

    trie: AnswerTrie
    limit: int  # tokens of the prompt


class ArchRouterEngine(Engine):
    """Scores policies with a Qwen2-architecture checkpoint that was tuned on Arch-Router's prompt.

    The answer is one of few known strings, so none is generated: a trie of all answers, in both spellings the model uses, follows the
    prompt, and one forward pass with a tree mask gives each answer's exact probability.

    Args:
        model: The decoder.
        tokenizer: Its transformers tokenizer, with its chat template.
        name: What decisions call the model.
        prompt: Whose prompt to render: `"model_card"` or `"archgw"`.
        max_prompt_tokens: What the whole prompt may have, policies included, in tokens. None: as much as the policies take and 2,048
            for the conversation, at most the model's context.
    """

    def __init__(
        self,
        model: Qwen2,
        tokenizer: Any,
        *,
        name: str,
        prompt: PromptFormat = "model_card",
        max_prompt_tokens: int | None = None,
    ) -> None:
        check_form(prompt)
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise SettingError(f"max_prompt_tokens={max_prompt_tokens}", hint="give a number of tokens, or None")
        self.name = name
        self.prompt: PromptFormat = prompt
        self.max_prompt_tokens = max_prompt_tokens
        self._model = model
        self._tokenizer = tokenizer
        # A text of the user's that spells a control token must not become one.
        controls = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._controls = {control: f"{control[:1]} {control[1:]}" for control in controls}
        self._question = lru_cache(maxsize=64)(self._new_question)

    @classmethod
    def from_directory(
        cls,
        directory: Path,
        *,
        name: str | None = None,
        quantize: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        prompt: PromptFormat = "model_card",
        max_prompt_tokens: int | None = None,
    ) -> ArchRouterEngine:
        """Load a checkpoint: one that `archroute pull` prepared is mapped, another is quantised to int8 as it is read.

        Args:
            directory: Holds `config.json`, safetensors and the tokenizer.
            name: What decisions call the model; None: the directory's name.
            quantize: False keeps the weights of a checkpoint that is not prepared as they are.
            dtype: The type of activations; None: the checkpoint's.
            device: Where to decide.
            prompt: As in the constructor.
            max_prompt_tokens: As in the constructor.

        Raises:
            ModelError: The directory holds no usable checkpoint.
        """
        from transformers import AutoTokenizer

        checkpoint = Checkpoint(directory)
        model = Qwen2(checkpoint.shape, checkpoint.load(quantize=quantize, dtype=dtype, device=torch.device(device)))
        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{directory} has no usable tokenizer: {error}",
                hint="tokenizer.json and tokenizer_config.json with the chat template belong beside the weights",
            ) from error
        name = name or directory.resolve().name
        return cls(model, tokenizer, name=name, prompt=prompt, max_prompt_tokens=max_prompt_tokens)

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            ConversationError: The policies leave no room for the conversation.
            EngineError: The pass failed, for instance for want of memory.
        """
        routes = tuple(routes)
        question = self._question(routes)
        prompts = [self._fitted(routes, conversation, question.limit) for conversation in conversations]
        scores: list[Scores] = []
        for pack in _packs(prompts, len(question.trie)):
            try:
                totals = self._answer_probabilities([prompt.tokens for prompt in pack], question.trie)
            except RuntimeError as error:
                raise EngineError(f"{self.name} failed on {len(pack)} conversations: {error}") from error
            for prompt, probabilities in zip(pack, totals, strict=True):
                coverage = float(probabilities.sum())
                if not 0 < coverage < float("inf"):
                    raise EngineError(f"{self.name} gave no answer a probability (coverage {coverage})")
                shares = (probabilities / coverage).tolist()
                scores.append(
                    Scores(
                        probabilities=dict(zip(question.trie.labels, shares, strict=True)),
                        coverage=min(coverage, 1.0),
                        prompt_tokens=len(prompt.tokens),
                        truncated=prompt.truncated,
                    )
                )
        return scores

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

    def _new_question(self, routes: tuple[Policy, ...]) -> _Question:
        spelled = {
            name: [self._tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers(name)]
            for name in (*(route.name for route in routes), OTHER)
        }
        trie = AnswerTrie(spelled)
        deepest = int(trie.depths.max())
        room = self._model.shape.context - deepest
        limit = self.max_prompt_tokens or len(self.tokens(routes, Conversation(()))) + CONVERSATION_TOKENS
        return _Question(trie, min(limit, room))

    def _fitted(self, routes: tuple[Policy, ...], conversation: Conversation, limit: int) -> _Prompt:
        measured: dict[Conversation, list[int]] = {}

        def measure(part: Conversation) -> int:
            measured[part] = self.tokens(routes, part)
            return len(measured[part])

        fitted = conversation.fit(measure, limit)
        tokens = measured.get(fitted) or self.tokens(routes, fitted)
        return _Prompt(tokens, fitted.truncated)

    @torch.inference_mode()
    def _answer_probabilities(self, prompts: Sequence[list[int]], trie: AnswerTrie) -> Tensor:
        """The probability of every label after every prompt: [prompts, labels], float64."""
        hidden = self._model.forward([self._segment(prompt, trie) for prompt in prompts])
        edges, row = [], 0
        device = self._model.device
        for prompt in prompts:
            nodes = hidden[row + len(prompt) - 1 : row + len(prompt) + len(trie)]  # the root is the prompt's last token
            edges.append(
                self._model.log_probabilities(nodes, trie.edge_nodes.to(device), trie.edge_tokens.to(device))
            )
            row += len(prompt) + len(trie)
        return trie.probabilities(torch.stack(edges).cpu())

    def _segment(self, prompt: list[int], trie: AnswerTrie) -> Segment:
        length, count = len(prompt), len(prompt) + len(trie)
        mask = torch.ones(count, count, dtype=torch.bool).tril()
        mask[length:, length:] = trie.ancestry()
        device = self._model.device
        return Segment(
            tokens=torch.cat([torch.tensor(prompt), trie.tokens]).to(device),
            positions=torch.cat([torch.arange(length), length - 1 + trie.depths]).to(device),
            mask=mask.to(device),
            cache=self._model.new_cache(count),
        )


def _packs(prompts: Sequence[_Prompt], extra: int) -> list[list[_Prompt]]:
    """The prompts in runs that one pass can read, each prompt with `extra` tokens of answers."""
    packs: list[list[_Prompt]] = []
    size = 0
    for prompt in prompts:
        size += len(prompt.tokens) + extra
        if not packs or size > _PACKED_TOKENS:
            packs.append([])
            size = len(prompt.tokens) + extra
        packs[-1].append(prompt)
    return packs
