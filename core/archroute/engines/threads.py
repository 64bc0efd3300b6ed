"""How many threads torch's operations have."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch


@contextmanager
def undivided() -> Iterator[None]:
    """Within, torch divides no operation of this thread among several, unless it is the main thread.

    OpenMP keeps a team for every thread that has divided work. Once all teams together have more threads than there are cores, which a second
    team brings about, those that wait for work sleep, and waking them takes longer than an operation on a few tokens.
    """
    before = torch.get_num_threads()  # asked first: torch sets a thread's number when it is first needed
    library = None if before == 1 or threading.current_thread() is threading.main_thread() else _torch()
    if library is None:
        yield
        return
    library.omp_set_num_threads(1)
    mkl = getattr(library, "MKL_Set_Num_Threads_Local", None)  # has a number of its own where torch was told one
    mkl_before = mkl and mkl(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(before)
        if mkl:
            mkl(mkl_before)


@lru_cache(maxsize=1)
def _torch() -> ctypes.CDLL | None:
    """Torch with the OpenMP that it calls, where that can be found.

    `torch.set_num_threads` would not do: what one thread sets there, threads that come later get.
    """
    for file in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            library = ctypes.CDLL(str(file))  # loaded already, with what it depends on
            if library.omp_get_max_threads() == torch.get_num_threads():
                return library
        except (OSError, AttributeError):
            pass
    return None
