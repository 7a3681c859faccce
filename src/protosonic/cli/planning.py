"""The command ``protosonic plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from protosonic.cli.options import CampaignOption

__all__ = ["app"]

app = typer.Typer()


@app.command()
def plan(
    scenario: Annotated[
        Path | None, typer.Argument(help="Scenario, YAML; options win over it. Every key has a default.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option("--from", help="Working directory of a finished campaign, to take rates from."),
    ] = None,
    campaign: CampaignOption = None,
    events: Annotated[int | None, typer.Option(help="Events of the campaign.")] = None,
    hits: Annotated[float | None, typer.Option(help="Hits of an event.")] = None,
    clients: Annotated[int | None, typer.Option(help="Jobs at the same time; by default the knee.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of the endpoint.")] = None,
    rate: Annotated[float | None, typer.Option(help="Hits that a GPU scores in a second.")] = None,
    link: Annotated[float | None, typer.Option(help="What each site can send, in Gb/s.")] = None,
    round_trip: Annotated[float | None, typer.Option(help="From job to endpoint and back, in ms.")] = None,
    sites: Annotated[int | None, typer.Option(help="Sites that the jobs run at.")] = None,
    payload: Annotated[str | None, typer.Option(help="What is sent: image or patches.")] = None,
    other: Annotated[
        float | None, typer.Option(help="Seconds of a job for an event beside its classification.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of the scenario, as server.ingress_gbps=10.")
    ] = None,
    with_simulation: Annotated[
        bool, typer.Option("--simulate", help="Simulate the planned number of clients as well.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Picture to draw: .svg or .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print a scenario with every key explained, and stop.")
    ] = False,
) -> None:
    """Plan capacity: throughput, the knee, clients per GPU, network, hours and cost; what limits, what would help.

    Example: [bold]protosonic plan --gpus 4 --rate 31000 --payload patches --other 115 --link 10[/bold]
    """
    from protosonic.planning.scenario import Scenario, load_scenario, parse_settings, scenario_yaml

    if example:
        typer.echo(scenario_yaml(), nl=False)
        return
    planned = Scenario() if scenario is None else load_scenario(scenario)
    if measured is not None:
        from protosonic.campaign.layout import Layout
        from protosonic.planning.measured import measured_values

        planned = planned.with_changes(measured_values(Layout.of_workdir(measured, campaign)))
    given: dict[str, Any] = {
        "workload.events": events,
        "workload.hits_per_event": hits,
        "workload.other_s": other,
        "clients.number": clients,
        "clients.payload": payload,
        "server.gpus": gpus,
        "server.hits_per_s": rate,
        "network.site_gbps": link,
        "network.round_trip_ms": round_trip,
        "network.sites": sites,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    planned = planned.with_changes(changes | parse_settings(settings or []))

    from protosonic.planning.plan import make_plan, plan_as_dict
    from protosonic.reporting.planning import draw_plan, print_plan

    made = make_plan(planned, with_simulation=with_simulation)
    if output is not None:
        draw_plan(made, output)
    if as_json:
        import json

        typer.echo(json.dumps(plan_as_dict(made), indent=2))
    else:
        print_plan(made)
