"""What ``protosonic model check`` prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from protosonic.stages.model_check import ModelReport

__all__ = ["print_model_report"]


def print_model_report(report: ModelReport, *, as_json: bool = False) -> None:
    """Print a report, for people or as JSON."""
    if as_json:
        print(json.dumps(asdict(report), indent=2, sort_keys=True))  # noqa: T201
        return
    console = Console(highlight=False)
    state = ", untrained" if report.untrained else ""
    lines = [
        ("", f"{report.path}: meets the contract{state}; sha256 {report.sha256}"),
        *((name, tensor) for name, tensor in report.tensors.items()),
        ("graph", f"opset {report.opset}, {report.nodes} nodes, by {report.producer}"),
        ("size", f"{report.parameters:,} parameters, {report.size / 1e6:.1f} MB"),
        ("CPU engine", f"{_ENGINES[report.engine]}, within {report.engine_deviation:.1g} of ONNX Runtime"),
        ("golden batch", "mean " + _numbers(report.golden)),
        (
            "simulated",
            "AUC against all other hits: " + _numbers(report.areas)
            if report.areas
            else "not tried: the scores of random weights mean nothing",
        ),
    ]
    for name, text in lines:
        console.print(f"{name:<19} {escape(text)}" if name else escape(text), soft_wrap=True)
    for remark in report.remarks:
        console.print(f"[yellow]{'remark':<19}[/yellow] {escape(remark)}", soft_wrap=True)


_ENGINES = {
    "sparse": "sparse: this is the published architecture",
    "onnxruntime": "ONNX Runtime: another architecture than the published one",
}


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
