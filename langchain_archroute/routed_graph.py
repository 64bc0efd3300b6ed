"""A router drawn as a graph."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.graph import Graph, Node

from archroute.policy import OTHER
from langchain_archroute.route import AnyRunnable, RouteTable


def routed_graph(router: AnyRunnable, table: RouteTable, config: RunnableConfig | None = None) -> Graph:
    """The router between its input and output, with an edge to every target and fallback of a route, named for it."""
    graph = Graph()
    start = graph.add_node(router.get_input_schema(config))
    end = graph.add_node(router.get_output_schema(config))
    node = graph.add_node(router)
    graph.add_edge(start, node)
    for name in table.bound:
        for number, model in enumerate(table.members(name)):
            role = name if number < len(table.arms(name)) or not number else f"{name}, fallback"
            _add(graph, node, end, model.target, role)
    _add(graph, node, end, table.default.target, OTHER)
    return graph


def _add(graph: Graph, router: Node, end: Node, target: AnyRunnable, role: str) -> None:
    served = graph.add_node(target)
    graph.add_edge(router, served, data=role, conditional=True)
    graph.add_edge(served, end)
