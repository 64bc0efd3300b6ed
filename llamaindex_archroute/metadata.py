"""What can be promised of an LLM that may be any of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM


def common_metadata(targets: Sequence[LLM], model_name: str) -> LLMMetadata:
    """What all `targets` can do: the smallest window and output, and only the abilities that every one has."""
    all_metadata = [target.metadata for target in targets]
    roles = {metadata.system_role for metadata in all_metadata}
    return LLMMetadata(
        context_window=_smallest(metadata.context_window for metadata in all_metadata),
        num_output=_smallest(metadata.num_output for metadata in all_metadata),
        is_chat_model=all(metadata.is_chat_model for metadata in all_metadata),
        is_function_calling_model=all(
            metadata.is_function_calling_model and isinstance(target, FunctionCallingLLM)
            for metadata, target in zip(all_metadata, targets, strict=True)
        ),
        model_name=model_name,
        system_role=roles.pop() if len(roles) == 1 else MessageRole.SYSTEM,
    )


def _smallest(sizes: Iterable[int]) -> int:
    """The smallest of `sizes`; a model without a limit of its own says −1."""
    return min((size for size in sizes if size > 0), default=-1)
