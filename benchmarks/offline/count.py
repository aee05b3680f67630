"""The report of a preset and a batch: trace the step, count each graph, add what lies outside the graphs."""

from __future__ import annotations

import dataclasses
import json

from . import counting, described

SCHEMA = 1


def dumps(report: dict) -> str:
    """JSON with one line per kernel, so that two reports can be compared line by line."""
    head = json.dumps({key: value for key, value in report.items() if key != "graphs"}, indent=1)
    graphs = []
    for graph in report["graphs"]:
        about = json.dumps({key: value for key, value in graph.items() if key != "rows"})
        graphs.append(f'{about[:-1]}, "rows": [\n' + ",\n".join(map(json.dumps, graph["rows"])) + "]}")
    return f'{head[:-2]},\n "graphs": [\n' + ",\n".join(graphs) + "]\n}\n"


def report(preset: str, batch: int, only_generate: bool, thin: int | None) -> dict:
    """The report as JSON-ready values.

    Args:
        thin: channels of both networks in place of the preset's.
    """
    import torch
    import triton

    from benchmarks import machine

    graphs, names = [], []

    def take(lowered, code: str) -> None:
        name = names[-1]
        if any(graph["graph"] == name for graph in graphs):  # the losses' backward goes on into the edit's
            name = "generate backward"
        graphs.append(counting.summary(name, lowered, code))

    def change(config):
        if thin is None:
            return config
        return dataclasses.replace(config, model=dataclasses.replace(config.model, g_width=thin, d_width=thin))

    mode = described.install(take)
    from .trace import trace  # after the card is described: the project's imports keep functions of torch.cuda by name

    around = trace(preset, batch, only_generate, mode, names.append, change)
    about = machine.describe("cpu")
    return {
        "schema": SCHEMA,
        "kind": "offline",
        "preset": preset,
        "batch": batch,
        "thin": thin,
        "only": "generate" if only_generate else None,
        "compiled_for": described.NAME,
        "torch": str(torch.__version__),
        "triton": triton.__version__,
        "commit": about["commit"],
        "date": about["date"],
        "graphs": graphs,
        "outside": around,
    }
