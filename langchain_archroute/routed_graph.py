"""A router drawn as a graph."""

from __future__ import annotations

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.graph import Graph

from archroute.policy import OTHER
from langchain_archroute.route import AnyRunnable, RouteTable


def routed_graph(router: AnyRunnable, table: RouteTable, config: RunnableConfig | None = None) -> Graph:
    """The router between its input and output, with an edge to every target that is named for its route."""
    graph = Graph()
    start = graph.add_node(router.get_input_schema(config))
    end = graph.add_node(router.get_output_schema(config))
    node = graph.add_node(router)
    graph.add_edge(start, node)
    targets: list[tuple[str, Runnable[object, object]]] = [*table.targets.items(), (OTHER, table.default)]
    for name, target in targets:
        served = graph.add_node(target)
        graph.add_edge(node, served, data=name, conditional=True)
        graph.add_edge(served, end)
    return graph
