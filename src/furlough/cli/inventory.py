"""`furlough inventory`: the facts of all clusters as one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from furlough.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def inventory() -> None:
    """Inventory files."""


@app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to write it; else it is printed.")
    ] = None,
) -> None:
    """Write the facts that the daemon has now, for furlough plan --inventory."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.inventory_file()
    if file is None:
        output.print_text(json.dumps(json.loads(found), indent=1))
    else:
        file.write_bytes(found)
        output.warn(f"Written to {file}.")
