"""`murphey keys`: makes, lists and revokes API keys, in the database itself: who can write there needs no other key."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mesh import terminal
from mesh.access import audit, keys
from mesh.access.identity import DEFAULT_TENANT
from mesh.access.keys import StoredKey
from mesh.access.roles import GRANTABLE, Scope
from mesh.errors import InvalidInput
from mesh.settings import of_mesh
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption

if TYPE_CHECKING:
    from mesh.access.storage import StoredKeys

MAX_DAYS = 36_500
app = typer.Typer(name="keys", help='API keys, which a mesh with `auth = "keys"` asks for.', no_args_is_help=True)
Result = TypeVar("Result")


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.add_typer(app)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as `web page` or `importer`.")],
    scope: Annotated[
        list[str], typer.Option(help=f"What it may do: {', '.join(GRANTABLE)}. Several times for several.")
    ] = [Scope.READ],  # noqa: B006 - typer copies it
    expires_days: Annotated[
        float | None, typer.Option(min=0.0, max=MAX_DAYS, help="Days until it expires; never by default.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose it is.")] = DEFAULT_TENANT,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown once, here; only its hash is kept."""
    now = datetime.now(UTC)
    expires = None if expires_days is None else now + timedelta(days=expires_days)

    async def add(stored: "StoredKeys") -> tuple[str, StoredKey]:
        shown, key = keys.issue(name, tenant, _scopes(scope), now, expires)
        await stored.add(key)
        return shown, key

    shown, key = _with_keys(data, add)
    _note(data, "keys create", key)
    if as_json:
        terminal.print_json({"key": shown, **_described(key, now)})
        return
    terminal.out.print(shown, markup=False)
    terminal.console.print("This is the only time that the key is shown.")


@app.command("list")
def list_keys(data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """List all keys, without what is secret of them."""
    now = datetime.now(UTC)
    found = [_described(key, now) for key in _with_keys(data, lambda stored: stored.all())]
    if as_json:
        terminal.print_json({"keys": found})
        return
    columns = ("id", "name", "tenant", "scopes", "state", "created", "expires")
    terminal.print_table(columns, ([_shown(key[column]) for column in columns] for key in found))


@app.command()
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `murphey keys list` shows it.")],
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """End a key. Services that have just seen it may take it for five more seconds."""
    now = datetime.now(UTC)
    key = _with_keys(data, lambda stored: stored.revoke(identifier))
    _note(data, "keys revoke", key)
    if as_json:
        terminal.print_json(_described(key, now))
        return
    terminal.console.print(f"The key {key.id} ({key.name}) is revoked.", markup=False)


def _with_keys(data: Path, work: Callable[["StoredKeys"], Awaitable[Result]]) -> Result:
    from mesh.access.storage import open_keys  # the database, which no other command loads

    settings = of_mesh(data)

    async def run() -> Result:
        async with open_keys(settings.keys_database_url, settings.data) as stored:
            return await work(stored)

    return terminal.run(run())


def _note(data: Path, command: str, key: StoredKey) -> None:
    with audit.open_log(of_mesh(data)) as opened:
        opened.note_command(key.tenant, command, f"keys/{key.id}")


def _scopes(names: list[str]) -> frozenset[Scope]:
    try:
        return frozenset(Scope(name) for name in names)
    except ValueError as error:
        raise InvalidInput(f"{error}; the scopes are {', '.join(GRANTABLE)}.") from None


def _described(key: StoredKey, now: datetime) -> dict[str, str | list[str] | None]:
    return {
        "id": key.id, "name": key.name, "tenant": key.tenant, "scopes": sorted(key.scopes), "state": key.state(now),
        "created": _iso(key.created), "expires": _iso(key.expires),
    }  # fmt: skip


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")


def _shown(value: str | list[str] | None) -> str:
    return " ".join(value) if isinstance(value, list) else value or "never"
