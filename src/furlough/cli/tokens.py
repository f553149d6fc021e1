"""`furlough token ...`"""

from __future__ import annotations

from typing import Annotated

import typer

from furlough.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Which = Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `token list` shows it.")]
Label = Annotated[str, typer.Option("--label", help="What it is for.")]
Owner = Annotated[
    str | None, typer.Option("--user", help="Whose it is; as without: of whoever calls.")
]
Privileges = Annotated[
    list[str] | None,
    typer.Option(
        "--privilege",
        help="Only this, of what its owner may do. Repeat for several; as without: all but "
        "managing users.",
    ),
]
Scope = Annotated[str, typer.Option("--scope", help="Only there: all, cluster:NAME or host:NAME.")]
Expires = Annotated[
    str, typer.Option("--expires", help="When it ends by itself: 12h, 90d; at most 366d.")
]


@app.command("list")
def list_tokens(json: Json = False) -> None:
    """API tokens: one's own; for whoever manages users, everybody's."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.tokens()
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("id", "user", "label", "scope", "expires", "last used", "revoked"),
        [
            (
                one.id,
                one.owner,
                one.label or "-",
                one.scope,
                one.expires_at,
                one.last_used_at,
                one.revoked_at,
            )
            for one in found
        ],
    )


@app.command("add")
def add_token(
    label: Label = "",
    user: Owner = None,
    privilege: Privileges = None,
    scope: Scope = "all",
    expires: Expires = "90d",
    json: Json = False,
) -> None:
    """Make an API token. It is printed this once."""
    from furlough.cli.daemon_access import connect

    body = {
        "label": label,
        "owner": user,
        "privileges": privilege,
        "scope": scope,
        "expires_in_s": output.seconds(expires),
    }
    with connect() as client:
        made = client.access.add_token(body)
    if json:
        output.print_json(made)
        return
    output.warn(f"Token {made.id} of {made.owner} ends {made.expires_at}. It is shown this once:")
    output.print_text(made.token)


@app.command("revoke")
def revoke_token(token: Which) -> None:
    """Revoke an API token: from now on it opens nothing."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.revoke_token(token)
    output.say(f"Token {token} is revoked.")
