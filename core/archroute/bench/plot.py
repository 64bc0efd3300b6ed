"""A picture of a benchmark's result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archroute.errors import SettingError


def plot(result: dict[str, Any], file: Path) -> None:
    """Draw latency against policies, turns and contenders into a PNG or SVG file.

    Raises:
        SettingError: matplotlib is not installed, or the file's ending is another.
    """
    if file.suffix not in (".png", ".svg"):
        raise SettingError(f"--plot {file}", hint="name a .png or .svg file")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("matplotlib is not installed", hint="pip install matplotlib") from error
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    compared, policies, turns = figure.subplots(1, 3)
    times = {"archroute fast": result["warm"]["ms"], "archroute exact": result["exact"]["warm"]["ms"]}
    times |= {name: over * result["warm"]["ms"] for name, over in result["warm"]["over"].items()}
    bars = compared.barh(
        list(times)[::-1], list(times.values())[::-1], color=["#b0b7c3"] * (len(times) - 2) + ["#2f6fdb"] * 2
    )
    compared.bar_label(bars, fmt="%.0f", padding=3)
    compared.set_title("warm turn, ms")
    for axes, key, label in ((policies, "ms_by_policies", "policies"), (turns, "ms_by_turns", "turns")):
        axes.plot(list(result[key]), list(result[key].values()), marker="o", color="#2f6fdb")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_title(f"warm turn by {label}, ms")
    figure.suptitle(result["machine"], fontsize=8)
    figure.savefig(file)
