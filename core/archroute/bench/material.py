"""What the benchmark routes: policies, conversations, and a tokenizer to stand in for the real one."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from archroute.conversation import Conversation, Turn
from archroute.engines.arch_router.check import REQUESTS
from archroute.policy import Policy
from archroute.prompt import render

_FIELDS = ("for customers", "for staff", "in banking", "in schools", "in hospitals", "in law firms", "in shops", "at home",
           "for engineers", "in public offices")  # fmt: skip
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def policies(count: int) -> list[Policy]:
    """Policies with names and descriptions of usual length: 20 of their own, then those of one field after another."""
    plain = list(REQUESTS)
    made = [
        Policy(f"{policy.name}_{field.split()[-1]}", f"{policy.description} {field}, whatever the form of the request")
        for field in _FIELDS
        for policy in plain
    ]
    return made[:count]


def conversation(turns: int, variant: int = 0) -> Conversation:
    """A conversation of `turns` user turns with replies between them; another for another variant."""
    texts = [text for requests in REQUESTS.values() for text in requests]
    kept: list[Turn] = []
    for number in range(turns):
        place = number * 7 + variant * 13
        kept.append(Turn("user", texts[place % len(texts)]))
        if number < turns - 1:
            reply = ", ".join(texts[(place + step) % len(texts)] for step in range(1, 4))
            kept.append(Turn("assistant", f"Sure. In short: {reply}."))
    return Conversation(tuple(kept))


def write_stand_in_tokenizer(directory: Path) -> None:
    """A byte-level BPE tokenizer learnt from the benchmark's own prompts, with Qwen2.5's pre-tokenizer and chat template."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=list(_SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([render(policies(200), conversation(20, variant)) for variant in range(8)], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")  # noqa: S106
    wrapped.chat_template = _TEMPLATE
    wrapped.save_pretrained(directory)
