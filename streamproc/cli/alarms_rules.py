"""`streamproc alarms apply | rationalise | whatif | report`: alarms as a site has thought them through, and how they do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")]
Bootstrap = Annotated[str | None, typer.Option(help="Broker address instead of the one in the site file.")]
Recording = Annotated[
    Path | None, typer.Option(help="SCADA history of a file (CSV, Parquet, NDJSON) instead of the topics.")
]
From = Annotated[str | None, typer.Option("--from", help="Beginning, ISO 8601.")]
To = Annotated[str | None, typer.Option("--to", help="End, not in it, ISO 8601.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group of alarms."""
    group.command("apply", help="Put a rationalisation file in force at an event time.")(apply)
    group.command("rationalise", help="Propose limits, delays and deadbands from history.")(rationalise)
    group.command("whatif", help="Replay history beside other rules: what would have been said.")(whatif)
    group.command("report", help="The figures of ISA-18.2 and EEMUA 191 as one HTML page.")(report)


def apply(
    rules: Annotated[Path, typer.Argument(help="Rationalisation file (TOML).")],
    at: Annotated[str, typer.Option(help="Event time from which it holds, ISO 8601.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the difference only.")] = False,
) -> None:
    """Check it, say what changes, and publish it; refused as a whole when anything in it is wrong."""
    import asyncio

    from streamproc.shell.rules_apply import apply_rules

    for line in asyncio.run(apply_rules(_site(config, bootstrap), rules, at, dry_run=dry_run)):
        print(line)


def rationalise(
    config: Config,
    recording: Annotated[Path, typer.Option("--from", help="History: recording, CSV, Parquet or NDJSON.")],
    out: Annotated[Path, typer.Option(help="Proposal to write.")] = Path("rules.proposed.toml"),
) -> None:
    """Write the proposal and show what it would change on the same history."""
    from streamproc.shell.rules_file import parse_rules, rules_text
    from streamproc.shell.rules_history import proposed, replayed, scada_of, whatif_lines

    site = _site(config, None)
    records = scada_of(site, recording)
    alarms, why = proposed(site, records)
    text = rules_text(alarms, why)
    new = parse_rules(text, site, str(out))
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {len(alarms)} rules proposed; causes and actions are for you to write")
    for line in whatif_lines(replayed(site, records, None), replayed(site, records, new)):
        print(line)


def whatif(
    rules: Annotated[Path, typer.Argument(help="Rationalisation file (TOML).")],
    config: Config = None,
    bootstrap: Bootstrap = None,
    recording: Recording = None,
    begin: From = None,
    end: To = None,
    as_json: AsJson = False,
) -> None:
    """Say what the rules would have changed."""
    import orjson

    from streamproc.errors import DataError
    from streamproc.shell.rules_file import load_rules
    from streamproc.shell.rules_history import compared, history, replayed, scada_of, whatif_lines

    site = _site(config, bootstrap)
    new = load_rules(rules, site)
    if recording is None and (begin is None or end is None):
        raise DataError("alarms whatif: say --from and --to, or name a --recording")
    records = (
        scada_of(site, recording, begin, end)
        if recording is not None
        else history(site, str(begin), str(end))
    )
    old = load_rules(site.site.rules_file, site)
    before, after = replayed(site, records, old), replayed(site, records, new)
    if as_json:
        print(orjson.dumps(compared(before, after)).decode())
        return
    for line in whatif_lines(before, after):
        print(line)


def report(
    config: Config = None,
    bootstrap: Bootstrap = None,
    alerts: Annotated[
        Path | None, typer.Option(help="NDJSON of alerts (`streamproc alerts --json`) instead of the topic.")
    ] = None,
    begin: From = None,
    end: To = None,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("alarms.html"),
    as_json: AsJson = False,
) -> None:
    """Write the page."""
    import orjson

    from streamproc.shell.alarm_report import figures_of, page_of, read_alerts

    found = read_alerts(_site(config, bootstrap), alerts, begin, end)
    figures = figures_of(found, begin, end)
    if as_json:
        print(orjson.dumps(figures).decode())
        return
    out.write_text(page_of(figures), encoding="utf-8")
    print(f"{out}: {len(found)} transitions, {len(figures)} positions")


def _site(config: Path | None, bootstrap: str | None) -> Any:  # noqa: ANN401 - SiteConfig, imported late
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    return with_bootstrap(load_site(config), bootstrap)
