"""The command line: `archroute route`, `eval`, `pull` and `demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import archroute
from archroute.conversation import Conversation
from archroute.decision import Decision, Reason
from archroute.errors import ArchRouteError, FileFormatError
from archroute.models import DEFAULT_MODEL, load_engine, prepared_directory
from archroute.policy import PolicySet
from archroute.router import Router

_BAR = 30  # characters of a full bar
_WHY: dict[Reason, str] = {  # where the likeliest route is not the one chosen
    "low_confidence": "not sure enough",
    "low_margin": "not far enough ahead of the next",
    "domain": "no action is sure enough, but their domain is",
}

app = typer.Typer(
    help="Policies in plain language, every turn to the right model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help='"embedded", a hub id or a directory; by default what `archroute pull` prepared, else "embedded".',
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; the project's errors are told without a traceback."""
    try:
        app()
    except ArchRouteError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"archroute {archroute.__version__}")
        raise typer.Exit


@app.command()
def route(
    text: Annotated[str, typer.Argument(help="The user message to route.")],
    policies: Annotated[Path, typer.Option("--policies", help="A policy file, or a Plano configuration.")],
    history: Annotated[
        Path | None, typer.Option("--history", help="JSON file with the turns before: a list of {role, content}.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", help="Probability from which on a policy is chosen, 0 to 1.")
    ] = 0.0,
    min_margin: Annotated[
        float, typer.Option("--min-margin", help="How far ahead of the next it must be, in probability.")
    ] = 0.0,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Decide which policy a message belongs to."""
    earlier = _read_history(history) if history else []
    router = Router(PolicySet.from_yaml(policies), model=model, min_confidence=min_confidence, min_margin=min_margin)
    decision = router.route(Conversation.from_messages([*earlier, {"role": "user", "content": text}]))
    if as_json:
        typer.echo(json.dumps(decision.as_dict(), ensure_ascii=False, indent=2))
    else:
        Console().print(_table(decision))


@app.command(name="eval")
def evaluate_cases(
    cases: Annotated[Path, typer.Argument(help="JSON lines: policies, conversation, answer, kind.")],
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy on cases with known answers."""
    from archroute.evaluate import evaluate, read_cases

    read = read_cases(cases)
    engine = load_engine(model)
    with _progress() as progress:
        task = progress.add_task("routing", total=len(read))
        result = evaluate(read, engine, advance=lambda: progress.advance(task))
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
        return
    table = Table(title=f"{result['model']}, {result['ms_per_decision']:.1f} ms a decision")
    for column in ("kind", "cases", "right", "accuracy"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, counted in [*result["kinds"].items(), ("total", result["total"])]:
        table.add_row(kind, str(counted["n"]), str(counted["correct"]), f"{counted['accuracy']:.1%}")
    Console().print(table)


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="Hub id of the model, or the directory of a checkpoint.")
    ] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of the hub model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to put it, instead of the cache.")] = None,
) -> None:
    """Fetch Arch-Router, quantise it to int8 and keep it for later starts."""
    from archroute.engines.arch_router.check import compare_and_keep
    from archroute.engines.arch_router.prepare import download, prepare

    wanted = f"{model}@{revision}" if revision else model
    target = out or prepared_directory(wanted)
    source = Path(model) if Path(model).is_dir() else download(wanted)
    with _progress() as progress:
        shards = progress.add_task("quantising", total=None)
        prepare(source, target, lambda done, total: progress.update(shards, completed=done, total=total))
        cases = progress.add_task("comparing int8 activations with full ones", total=None)
        check = compare_and_keep(target, lambda done, total: progress.update(cases, completed=done, total=total))
    typer.echo(
        f"int8 activations decide {check.same:.1%} of {check.cases} conversations the same "
        f"(mean distance {check.distance:.4f}): {'on' if check.safe else 'off'} by default"
    )
    typer.echo(f"{wanted} is ready in {target}")


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions.")] = False,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="Directory of Qwen2.5's tokenizer.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the result into a .png or .svg file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a decision against generating the answer, on random weights of Arch-Router's shape.

    It takes 6 GB of disk and 10 of memory, or 16 on CPUs without bfloat16.
    """
    from archroute.bench import run
    from archroute.bench.plot import plot as draw

    with Progress(
        TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("", total=None)
        result = run(quick=quick, tokenizer=tokenizer, step=lambda text: progress.update(task, description=text))
    if plot:
        draw(result, plot)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        Console().print(_bench_table(result))


@app.command()
def demo() -> None:
    """Route a short conversation through LangChain and LlamaIndex, offline."""
    from archroute.demo import run

    run(Console())


def _read_history(file: Path) -> list[dict[str, Any]]:
    try:
        messages = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{file}: can't be read: {error}", hint="check the path") from error
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{file}, line {error.lineno}: no valid JSON: {error.msg}") from error
    if not isinstance(messages, list):
        raise FileFormatError(f"{file}: a list of {{role, content}} messages is wanted")
    return messages


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _table(decision: Decision) -> Table:
    why = f" ({_WHY[decision.reason]})" if decision.reason in _WHY else ""
    table = Table(
        title=f"→ {decision.route}{why}", caption=f"{decision.model}, {decision.latency_ms:.0f} ms", title_style="bold"
    )
    table.add_column("route")
    table.add_column("probability", justify="right")
    table.add_column("", min_width=_BAR)
    for name, probability in sorted(decision.probabilities.items(), key=lambda item: -item[1]):
        style = "bold green" if name == decision.route else ""
        table.add_row(name, f"{probability:.3f}", "█" * round(probability * _BAR), style=style)
    return table


def _bench_table(result: dict[str, Any]) -> Table:
    table = Table(title="their time over ours", caption=f"{result['machine']}; {result['weights']} weights")
    columns = {
        "warm": result["warm"],
        "warm, exact": result["exact"]["warm"],
        "cold": result["cold"],
        "cold, exact": result["exact"]["cold"],
    }
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for other in result["warm"]["over"]:
        table.add_row(other, *(f"{column['over'][other]:.1f}×" for column in columns.values()))
    table.add_row("ours over the floor of products", *(f"{column['over_floor']:.2f}×" for column in columns.values()))
    table.add_row("ours, ms", *(f"{column['ms']:.0f} ± {column['spread'] / 2:.0f}" for column in columns.values()))
    table.add_row("200 policies over 10", f"{result['policies_200_over_10']:.2f}×")
    table.add_row("turn 20 over turn 2", f"{result['turn_20_over_2']:.2f}×")
    for name, value in result["memory_gb"].items():
        table.add_row(f"memory, {name.replace('_', ' ')}", f"{value:.2f} GB")
    table.add_row("start, prepared over quantising", f"{result['start_s']['ratio']:.2f}×")
    return table
