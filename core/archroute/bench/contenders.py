"""Who is measured: this project, and what people use otherwise, each over the same weights and prompts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from archroute.conversation import Conversation
from archroute.engines.arch_router.engine import ArchRouterEngine
from archroute.engines.linear import fastest_on
from archroute.policy import Policy

ANSWER_TOKENS = 9
"""What a generated answer has: `{'route': 'code_generation'}` and the end."""


class Contender(ABC):
    """Something that makes decisions.

    Attributes:
        name: The key in the results.
        remembers: Whether it keeps what it has read, so that a warm decision differs from a cold one.
    """

    name: str
    remembers = False

    @abstractmethod
    def decide(self, routes: Sequence[Policy], conversation: Conversation) -> None:
        """Make one decision."""

    def forget(self) -> None:  # noqa: B027 - most have nothing to forget
        """Drop what was kept of earlier prompts."""

    def milliseconds(self, routes: Sequence[Policy], conversation: Conversation) -> float:
        """The time of one decision."""
        start = time.perf_counter()
        self.decide(routes, conversation)
        return (time.perf_counter() - start) * 1000


class Ours(Contender):
    """This project's engine.

    Args:
        engine: May be another contender's too, as long as `forget` comes between them.
        fast: Whether it rounds activations to int8.
    """

    remembers = True

    def __init__(self, engine: ArchRouterEngine, *, fast: bool) -> None:
        self.name = "fast" if fast else "exact"
        self.engine = engine
        self._fast = fast

    def decide(self, routes: Sequence[Policy], conversation: Conversation) -> None:
        """Read what is new."""
        self.engine.fast = self._fast
        self.engine.score(routes, [conversation])

    def forget(self) -> None:
        """Empty the prefix cache."""
        self.engine.forget()


class Generate(Contender):
    """transformers' `generate`, as the model card does it, in the CPU's fastest float type, or with int8 weights by optimum-quanto."""

    def __init__(self, raw: Path, engine: ArchRouterEngine, *, int8: bool) -> None:
        from transformers import AutoModelForCausalLM

        _, dtype = fastest_on(torch.device("cpu"))
        plain = "bf16" if dtype == torch.bfloat16 else "fp32"
        self.name = f"{'quanto' if int8 else plain}_generate"
        self._tokens = engine.tokens
        self._model: Any = AutoModelForCausalLM.from_pretrained(raw, dtype=dtype, local_files_only=True)
        if int8:
            from optimum.quanto import freeze, qint8, quantize

            quantize(self._model, weights=qint8, exclude="lm_head")
            freeze(self._model)

    def decide(self, routes: Sequence[Policy], conversation: Conversation) -> None:
        """Read the whole prompt and generate an answer's worth of tokens."""
        prompt = torch.tensor([self._tokens(routes, conversation)])
        with torch.inference_mode():
            self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                min_new_tokens=ANSWER_TOKENS,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )


class LlamaCpp(Contender):
    """llama.cpp over the same shape in Q8_0, with its prompt cache."""

    name = "llama_cpp"
    remembers = True

    def __init__(self, raw: Path, engine: ArchRouterEngine) -> None:
        from llama_cpp import Llama

        from archroute.bench.gguf import write_gguf

        self._tokens = engine.tokens
        file = write_gguf(raw, raw / "model-q8_0.gguf")
        threads = torch.get_num_threads()
        self._model: Any = Llama(str(file), n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False)

    def decide(self, routes: Sequence[Policy], conversation: Conversation) -> None:
        """Read what its cache does not hold of the prompt, and generate as many tokens."""
        generated = self._model.generate(self._tokens(routes, conversation), temp=0.0)
        for _ in range(ANSWER_TOKENS):
            next(generated)
        generated.close()

    def forget(self) -> None:
        """Empty the prompt cache."""
        self._model.reset()
        self._model._ctx.kv_cache_clear()


def llama_cpp_is_installed() -> bool:
    """Whether llama.cpp can be measured: `pip install llama-cpp-python gguf`."""
    return find_spec("llama_cpp") is not None and find_spec("gguf") is not None
