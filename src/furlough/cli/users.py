"""`furlough user ...` and `furlough role ...`"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from furlough.cli import output
from furlough.errors import Invalid

user_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
role_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="ROLE[@SCOPE]",
        help="A role, and how far it reaches: all (as without), cluster:NAME or host:NAME. "
        "Repeat for several.",
    ),
]
Scope = Annotated[
    str, typer.Option("--scope", help="How far it reaches: all, cluster:NAME or host:NAME.")
]
Without = Annotated[
    bool, typer.Option("--no-password", help="They do not sign in; they use tokens alone.")
]
Privileges = Annotated[
    list[str],
    typer.Option("--privilege", help="A privilege of the role. Repeat for several."),
]


def secret_from(question: str, *, is_new: bool = False) -> str:
    """A secret, asked for on a terminal without being shown, else the first line of the input.
    Never an argument: those are seen by everybody on the machine."""
    if sys.stdin.isatty():
        return str(typer.prompt(question, hide_input=True, confirmation_prompt=is_new, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise Invalid(
            "secret.missing",
            f"{question} was asked for, and nothing came.",
            remedy="Type it at a terminal, or give it as a line of standard input.",
        )
    return line


def parsed_grant(text: str) -> dict[str, str]:
    """ROLE or ROLE@SCOPE."""
    role, _, scope = text.partition("@")
    return {"role": role, "scope": scope or "all"}


# --- users ---------------------------------------------------------------------------------------


@user_app.command("list")
def list_users(json: Json = False) -> None:
    """All users."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.users()
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("name", "enabled", "password", "roles"),
        [
            (
                one.name,
                "yes" if one.is_enabled else "no",
                "yes" if one.has_password else "no",
                ", ".join(f"{held.role}@{held.scope}" for held in one.roles) or "none",
            )
            for one in found
        ],
    )


@user_app.command("show")
def show_user(name: Name, json: Json = False) -> None:
    """One user with their roles."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.user(name)
    if json:
        output.print_json(found)
        return
    output.print_facts(
        {
            "name": found.name,
            "enabled": "yes" if found.is_enabled else "no",
            "password": "yes" if found.has_password else "no",
            "made_at": found.created_at,
            "roles": ", ".join(f"{held.role}@{held.scope}" for held in found.roles) or "none",
        }
    )


@user_app.command("add")
def add_user(
    name: Name, role: Roles = None, no_password: Without = False, json: Json = False
) -> None:
    """A new user. The password is asked for, or read from the first line of standard input."""
    from furlough.cli.daemon_access import connect

    grants = [parsed_grant(one) for one in role or []]
    password = None if no_password else secret_from("Password", is_new=True)
    with connect() as client:
        found = client.access.add_user(name, password, grants)
    if json:
        output.print_json(found)
    else:
        output.say(f"User {found.name} was made.")


@user_app.command("first")
def first_user(name: Name, json: Json = False) -> None:
    """Make the first administrator, with the secret that the daemon has shown at its start. Secret
    and password are asked for, or read from two lines of standard input."""
    from furlough.cli.daemon_access import connect

    secret = secret_from("Secret").strip()
    password = secret_from("Password", is_new=True)
    with connect() as client:
        found = client.access.first_admin(secret, name, password)
    if json:
        output.print_json(found)
    else:
        output.say(f"User {found.name} was made, and may do everything.")


@user_app.command("password")
def set_password(name: Name) -> None:
    """Give a user a new password. Their sessions end."""
    from furlough.cli.daemon_access import connect

    password = secret_from("New password", is_new=True)
    with connect() as client:
        client.access.set_user(name, {"password": password})
    output.say(f"User {name} has a new password; their sessions have ended.")


@user_app.command("enable")
def enable_user(name: Name) -> None:
    """Let a user in again."""
    _switch(name, is_enabled=True)


@user_app.command("disable")
def disable_user(name: Name) -> None:
    """Keep a user out: their sessions end, and their tokens open nothing."""
    _switch(name, is_enabled=False)


def _switch(name: str, *, is_enabled: bool) -> None:
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.set_user(name, {"is_enabled": is_enabled})
    output.say(f"User {name} is {'enabled' if is_enabled else 'disabled'}.")


@user_app.command("remove")
def remove_user(name: Name) -> None:
    """Remove a user with their tokens, sessions and roles."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.remove_user(name)
    output.say(f"User {name} was removed.")


# --- roles ---------------------------------------------------------------------------------------


@role_app.command("list")
def list_roles(json: Json = False) -> None:
    """All roles with their privileges."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.roles()
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("name", "built in", "privileges"),
        [(one.name, "yes" if one.is_built_in else "no", " ".join(one.privileges)) for one in found],
    )


@role_app.command("set")
def set_role(role: RoleName, privilege: Privileges, json: Json = False) -> None:
    """Make a role of privileges, or change one. Sessions of those who have it end."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.set_role(role, privilege)
    if json:
        output.print_json(found)
    else:
        output.say(f"Role {found.name}: {' '.join(found.privileges) or 'nothing'}.")


@role_app.command("remove")
def remove_role(role: RoleName) -> None:
    """Remove a role that nobody has."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.remove_role(role)
    output.say(f"Role {role} was removed.")


@role_app.command("grant")
def grant_role(role: RoleName, user: Name, scope: Scope = "all") -> None:
    """Give a user a role. Their sessions end."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.grant(user, role, scope)
    output.say(f"User {user} has role {role} in {scope}.")


@role_app.command("revoke")
def revoke_role(role: RoleName, user: Name, scope: Scope = "all") -> None:
    """Take a role from a user. Their sessions end."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.access.revoke(user, role, scope)
    output.say(f"User {user} has role {role} in {scope} no more.")
