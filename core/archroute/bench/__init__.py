"""What a decision costs on this machine, against what people use otherwise: `archroute bench`.

On random weights of Arch-Router's exact shape, so that it runs without the model; speed does not depend on the values.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from archroute.bench.contenders import Contender, Generate, LlamaCpp, Ours, llama_cpp_is_installed
from archroute.bench.machine import processor
from archroute.bench.material import conversation, policies, write_stand_in_tokenizer
from archroute.bench.memory import measured
from archroute.bench.weights import write_random_checkpoint
from archroute.engines.arch_router.engine import ArchRouterEngine
from archroute.engines.arch_router.model import Shape
from archroute.engines.linear import PackedLinear, fastest_on, packed_levels
from archroute.errors import SettingError
from archroute.policy import Policy

POLICIES = 10
TURNS = 6  # user turns of the conversation that is compared: a prompt of about 800 tokens
_POLICY_COUNTS = (10, 50, 100, 200)
_TURN_COUNTS = (2, 5, 10, 20)
_CACHE_BYTES = 2**30  # holds 200 policies
_OTHER = 50  # from here on, variants of conversations that no cold decision has read
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json", "merges.txt")

Step = Callable[[str], None]
"""Told what is done next."""


def run(*, quick: bool = False, tokenizer: Path | None = None, step: Step = lambda _: None) -> dict[str, Any]:
    """Measure.

    Args:
        quick: Two repetitions, one of what generates, and only the ends of each curve: an answer within five minutes on two cores
            that have bfloat16.
        tokenizer: A directory with Qwen2.5's tokenizer; None: a stand-in, which the result names.
        step: Told what is done next.

    Returns:
        `warm` and `cold`, each with `ms`, `spread` (of the runs, largest less smallest), `over` (others' time over ours) and
        `over_floor`, for fast decisions, and the same under `exact`; how time grows with policies and turns; memory; the machine.
    """
    repetitions = 2 if quick else 5
    with tempfile.TemporaryDirectory(prefix="archroute-bench-") as folder:
        raw, prepared = Path(folder) / "raw", Path(folder) / "prepared"
        step("writing random weights")
        write_random_checkpoint(raw)
        _put_tokenizer(raw, tokenizer)
        step("quantising")
        preparing = measured("prepare", raw, prepared)
        step("loading")
        loading, quantising = measured("load", prepared), measured("start", raw)["seconds"]
        engine = ArchRouterEngine.from_directory(prepared, cache_bytes=_CACHE_BYTES)
        ours = Ours(engine, fast=True)
        contenders: list[Contender] = [ours, Ours(engine, fast=False)]
        step("loading transformers and quanto")
        contenders += [Generate(raw, engine, int8=int8) for int8 in (False, True)]
        if llama_cpp_is_installed():
            step("converting for llama.cpp")
            contenders.append(LlamaCpp(raw, engine))
        cold, warm = _compared(contenders, repetitions, 1 if quick else repetitions, step)
        floors = _floors(ours)
        step_size = 3 if quick else 1  # the first and the last of each
        by_turns = {n: _warm(ours, policies(POLICIES), n, repetitions, step) for n in _TURN_COUNTS[::step_size]}
        by_policies = {n: _warm(ours, policies(n), TURNS, repetitions, step) for n in _POLICY_COUNTS[::step_size]}
    return {
        **_told("fast", cold, warm, floors),
        "exact": _told("exact", cold, warm, floors),
        "floor_ms": floors,
        "policies_200_over_10": by_policies[200] / by_policies[10],
        "turn_20_over_2": by_turns[20] / by_turns[2],
        "ms_by_policies": by_policies,
        "ms_by_turns": by_turns,
        "memory_gb": {
            "resident": loading["resident"],
            "resident_after_a_decision": loading["resident_after_a_decision"],
            "of_it_mapped_files": loading["of_it_mapped_files"],
            "preparing_peak": preparing["peak"],
        },
        "start_s": {
            "prepared": loading["seconds"],
            "quantising": quantising,
            "ratio": loading["seconds"] / quantising,
        },
        "prompt_tokens": len(ours.engine.tokens(policies(POLICIES), conversation(TURNS))),
        "tokenizer": str(tokenizer) if tokenizer else "stand-in, learnt from the benchmark's prompts",
        "weights": "random, of Qwen2.5-1.5B's shape",
        "repetitions": repetitions,
        "machine": machine(),
    }


def machine() -> str:
    """The machine in words."""
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _compared(
    contenders: Sequence[Contender], repetitions: int, whole: int, step: Step
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of cold and warm decisions on the same prompts, the contenders taking turns.

    Those that read the whole prompt every time, and take longest, do so `whole` times.
    """
    cold: dict[str, list[float]] = defaultdict(list)
    warm: dict[str, list[float]] = defaultdict(list)
    routes = policies(POLICIES)
    for contender in contenders:
        contender.decide(policies(1), conversation(1, variant=99))  # what is only paid once in a process
    for number in range(repetitions):
        for contender in contenders:
            if not contender.remembers and number >= whole:
                continue
            step(f"{contender.name}, {number + 1} of {repetitions if contender.remembers else whole}")
            contender.forget()
            cold[contender.name].append(contender.milliseconds(routes, conversation(TURNS, number)))
            if contender.remembers:
                warm[contender.name].append(_after_a_turn(contender, routes, TURNS, _OTHER + number))
            else:
                warm[contender.name].append(cold[contender.name][-1])
    return cold, warm


def _after_a_turn(contender: Contender, routes: Sequence[Policy], turns: int, variant: int) -> float:
    """Milliseconds of the last turn's decision, the one before it having been decided."""
    contender.decide(routes, conversation(turns - 1, variant))
    return contender.milliseconds(routes, conversation(turns, variant))


def _warm(contender: Contender, routes: Sequence[Policy], turns: int, repetitions: int, step: Step) -> float:
    step(f"{len(routes)} policies, {turns} turns")
    contender.forget()
    return statistics.median(_after_a_turn(contender, routes, turns, variant) for variant in range(repetitions))


def _floors(ours: Ours) -> dict[str, float]:
    """Milliseconds that the products alone would take of a cold and a warm decision, at the best rate of the int8 product."""
    routes, engine = policies(POLICIES), ours.engine

    def rows(turns: int) -> int:
        before = engine.tokens_read
        ours.decide(routes, conversation(turns))
        return engine.tokens_read - before

    ours.forget()
    cold = rows(TURNS)
    ours.forget()
    rows(TURNS - 1)
    each = 2 * _weights(engine.shape) / _best_rate() * 1000
    return {"cold": cold * each, "warm": rows(TURNS) * each}


def _weights(shape: Shape) -> int:
    """How many weights a token meets in the linear layers."""
    heads = shape.head_size * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * shape.hidden * (heads + 3 * shape.inner)


def _best_rate() -> float:
    """Operations a second of the best int8 product, over several numbers of rows."""
    inner, outer = 1536, 17920
    weight = torch.ones(outer, inner, dtype=torch.int8)
    _, dtype = fastest_on(torch.device("cpu"))
    layer = PackedLinear(weight, torch.ones(outer), dtype) if packed_levels() is not None else None
    rates = []
    for rows in (128, 256, 512):
        x = torch.ones(rows, inner, dtype=torch.int8)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            layer.multiplied(x.view(torch.uint8)) if layer else torch._int_mm(x, weight.T)
            times.append(time.perf_counter() - start)
        rates.append(2 * rows * inner * outer / min(times))
    return max(rates)


def _told(
    name: str, cold: dict[str, list[float]], warm: dict[str, list[float]], floors: dict[str, float]
) -> dict[str, Any]:
    told = {}
    for state, times in (("warm", warm), ("cold", cold)):
        median = {contender: statistics.median(values) for contender, values in times.items()}
        told[state] = {
            "ms": median[name],
            "spread": max(times[name]) - min(times[name]),
            "over": {other: value / median[name] for other, value in median.items() if other not in ("fast", "exact")},
            "over_floor": median[name] / floors[state],
        }
    return told


def _put_tokenizer(directory: Path, tokenizer: Path | None) -> None:
    if tokenizer is None:
        write_stand_in_tokenizer(directory)
        return
    if not (tokenizer / "tokenizer.json").is_file():
        raise SettingError(f"{tokenizer} has no tokenizer.json", hint="name the directory of Qwen2.5's tokenizer")
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, directory / name)
