"""A Postgres server for the tests that need one: on a socket in a folder of its own, started from the installed binaries."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

SUPERUSER = "murphey"
DEBIAN_FOLDER = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Postgres:
    """A server. It has no port: its socket lies in `folder`."""

    binaries: Path
    folder: Path
    owner: str | None

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.folder}"

    def create(self, database: str) -> None:
        """A new, empty database."""
        with psycopg.connect(host=str(self.folder), user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """Breaks off every connection."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def initialize(self) -> None:
        """Makes the cluster of databases."""
        self._run("initdb", "-D", str(self.folder / "data"), "-U", SUPERUSER, "--auth=trust", "--no-sync", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, user=self.owner, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr.decode()[-500:]}"


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A running server; it and its data are gone on leaving. Postgres never runs as root: it is given another user then."""
    owner = _another_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="murphey-postgres-"))
    if owner is not None:
        shutil.chown(folder, owner)
    folder.chmod(0o755)
    server = Postgres(_binaries(), folder, owner)
    try:
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    """The newest that are installed. Missing ones are a failure, not a skip."""
    found = sorted(DEBIAN_FOLDER.glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("pg_ctl")
    folder = found[-1] if found else Path(on_path).resolve().parent if on_path else None
    assert folder is not None, "This test needs Postgres' own programs (initdb, pg_ctl): install postgresql."
    return folder


def _another_user() -> str:
    names = [entry.pw_name for entry in pwd.getpwall()]
    return "postgres" if "postgres" in names else "nobody"
