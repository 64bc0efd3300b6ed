"""How much memory loading and preparing take, each in a process of its own: `python -m archroute.bench.memory`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def measured(task: str, *directories: Path) -> dict[str, float]:
    """What `task` (`start DIR`, `load DIR`: start and decide, or `prepare SOURCE DIR`) took, in GB and seconds."""
    command = [sys.executable, "-m", "archroute.bench.memory", task, *map(str, directories)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _gigabytes(field: str) -> float:
    """A field of the process's status, as Linux tells it."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def _main() -> None:
    import time

    from archroute.engines.arch_router import ArchRouterEngine
    from archroute.engines.arch_router.prepare import prepare

    task, directories = sys.argv[1], [Path(argument) for argument in sys.argv[2:]]
    start = time.perf_counter()
    if task == "prepare":
        prepare(directories[0], directories[1])
    else:
        engine = ArchRouterEngine.from_directory(directories[0], compute="fast")
    seconds = time.perf_counter() - start
    told = {"seconds": seconds, "resident": _gigabytes("VmRSS"), "peak": _gigabytes("VmHWM")}
    if task == "load":
        from archroute.bench.material import conversation, policies

        engine.score(policies(10), [conversation(4)])
        told |= {"resident_after_a_decision": _gigabytes("VmRSS"), "of_it_mapped_files": _gigabytes("RssFile")}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    _main()
