"""Clients with networks of several sizes: accuracy by size."""

from __future__ import annotations

from fedbench.errors import BadInput
from fedbench.experiments.rules import CellName
from fedbench.models import ALIASES
from fedbench.reporting.figures import styles
from fedbench.reporting.paper.lines import Axis, Line, draw_lines
from fedbench.reporting.paper.material import Material, Part, Stored, entry, problem_table
from fedbench.reporting.tables import Column, Table


def clients_by_network(stored: Stored) -> dict[str, list[int]]:
    """The places among the trained clients of those with each network, in the order of first mention.

    A network that only unseen clients have is not there.
    """
    from fedbench import plugins

    spec = stored.result.spec
    networks = plugins.parse_networks(spec.network, spec.clients, dict(stored.job.networks))
    places = networks.places(spec.seed)[: spec.clients - spec.novel_clients]
    return {
        plugin.name: [i for i, place in enumerate(places) if place == k]
        for k, plugin in enumerate(networks.distinct)
        if k in places
    }


def part(material: Material) -> Part:
    """A table of methods by size for each column, a figure, and the accuracies."""
    made = Part()
    problems = []
    count = material.plan.experiment.length(material.plan.preset).seeds
    for column in material.columns:
        found: dict[str, dict[str, dict[int, float]]] = {}  # method -> network -> seed -> accuracy
        for method in material.methods:
            for each in material.stored.get((column.name, method), ()):
                try:
                    groups = clients_by_network(each)
                except BadInput as error:
                    problems.append(str(error))
                    continue
                for network, clients in groups.items():
                    value = material.accuracy(each.result.best, clients)
                    found.setdefault(method, {}).setdefault(network, {})[each.seed] = value
        if not found:
            continue
        networks = list(dict.fromkeys(network for row in found.values() for network in row))
        for method, row in found.items():
            for name, network in [*((each, each) for each in row), *ALIASES.items()]:  # rules may use either name
                if network in row:
                    made.values[CellName(name, method, column.name)] = row[network]
        made.tables.append(
            Table(
                name=f"{column.name}-sizes",
                title=f"Accuracy by the clients' network: {column.label}",
                caption=f"Test accuracy in %, {material.plan.experiment.metric}, of the clients with each network.",
                columns=[Column(network) for network in networks],
                rows=[
                    (material.title(method), [entry(row.get(network, {}), count) for network in networks])
                    for method, row in found.items()
                ],
            )
        )
        looks = styles(found)
        made.pictures.append(
            draw_lines(
                f"{column.name}-sizes",
                f"Accuracy by the clients' network: {column.label}",
                "Test accuracy of the clients with each network, mean ± standard deviation over seeds. One server "
                "trains all clients of pFedHN; a method that cannot serve several networks has a server for each.",
                [
                    Line.through(material.title(m), looks[m], [(i, row.get(n, {})) for i, n in enumerate(networks)])
                    for m, row in found.items()
                ],
                Axis("network", range(len(networks)), networks),
                "test accuracy (%)",
            )
        )
    if problems:
        made.tables.append(problem_table("sizes-problems", "Accuracy by the clients' network", problems))
    return made
