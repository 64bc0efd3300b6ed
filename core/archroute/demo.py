"""A conversation that changes its topic, sent through every framework that is installed."""

from __future__ import annotations

from importlib.metadata import entry_points

from rich.console import Console

from archroute.models import EMBEDDED, load_engine
from archroute.policy import Policy, PolicySet

POLICIES = PolicySet(
    [
        Policy(
            "code_design",
            "Planning the architecture of software: components, interfaces, patterns and their trade-offs",
        ),
        Policy("code_understanding", "Explaining what existing source code does and how it works"),
        Policy("code_generation", "Writing new functions, scripts or boilerplate code"),
        Policy("document_creation", "Drafting documents such as letters, reports, proposals and specifications"),
        Policy("image_editing", "Modifying or retouching an existing picture or photo"),
        Policy("summarisation", "Condensing a long text, thread or article into its main points"),
    ]
)

CONVERSATION = [
    {"role": "user", "content": "Write a Python function that reads a CSV file and returns the average of a column."},
    {"role": "assistant", "content": "def average(path, column): …"},
    {"role": "user", "content": "What does this line do: rows = list(csv.DictReader(handle))?"},
    {"role": "assistant", "content": "It reads all rows into memory, each as a dict."},
    {
        "role": "user",
        "content": "Should parsing and statistics be separate modules? How would you structure the components?",
    },
    {"role": "assistant", "content": "Yes: a reader, a statistics core and a thin command line."},
    {"role": "user", "content": "Remove the background from my profile photo and brighten the colours."},
    {"role": "assistant", "content": "Here is the edited photo."},
    {"role": "user", "content": "Condense this long article into its three main points."},
    {"role": "assistant", "content": "1. … 2. … 3. …"},
    {"role": "user", "content": "Draft a one-page project proposal for our client."},
    {"role": "assistant", "content": "Project proposal: …"},
    {"role": "user", "content": "Is it going to rain in Lisbon tomorrow?"},
]


def run(console: Console) -> None:
    """Show, offline and on the embedded model, what goes where: decided by the core, then through each framework."""
    console.print(f"[bold]Policies[/], read by {load_engine(EMBEDDED).name}")
    for route in POLICIES:
        console.print(f"  {route.name}: {route.description}", highlight=False)
    doors = sorted(entry_points(group="archroute.demo"), key=lambda door: door.name)
    for door in doors:
        try:
            show = door.load()
        except ImportError as error:
            console.print(f"\n{door.name} is not installed ({error.name}): pip install archroute[all]")
            continue
        console.print(f"\n[bold]Through {door.name}[/]")
        show(POLICIES, CONVERSATION, console)
