"""The way to one gallery's schema in PostgreSQL: address, connection, transactions, and errors in one line.

A connection that was lost between two calls is made anew without a word. One that is lost inside a call ends that call
with a StorageError; the server then rolls back whatever it was doing, and the next call connects again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from probface.errors import InvalidValue, MissingExtra, ProbFaceError, StorageError
from probface.gallery.place import SERVERS

if TYPE_CHECKING:
    import psycopg

    Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
    Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]

SCHEMA_PREFIX = "probface_"
CONNECT_SECONDS = 10
"""How long to wait for a server that does not answer, where the address says nothing (``connect_timeout``)."""

READ = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
"""Makes a transaction's commit wait for the disk, where the server's default would not; stronger defaults stay."""
WRITE = f"BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE; {DURABLE}"


class Session:
    """One connection, used by one thread at a time (the others wait).

    Args:
        url: ``postgresql://user:password@host:port/database``.
        gallery: 1 to 40 of a to z, 0 to 9 and underscore.
        read_only: nothing is changed through it.
    """

    def __init__(self, url: str, gallery: str, *, read_only: bool = False) -> None:
        self.url = url
        self.read_only = read_only
        self.gallery = check_gallery(gallery)
        self.schema = SCHEMA_PREFIX + gallery
        self._parameters = _parameters(url)
        self.location = f"{_address(self._parameters)} (gallery {gallery})"
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._closed = False
        self._busy = False

    def raw_connection(self) -> Connection:
        """A connection in autocommit mode that knows neither the schema nor pgvector yet; the caller closes it.

        Raises:
            MissingExtra: psycopg is not installed.
            StorageError: there is no way to the server, or it does not let us in.
        """
        psycopg = driver()
        try:
            # No prepared statements: a migration changes the type of the columns under them, and poolers lose them.
            connection: Connection = psycopg.connect(autocommit=True, prepare_threshold=None, **self._parameters)
        except psycopg.OperationalError as error:
            raise StorageError(f"{self.location}: {self._refusal(error)}") from error
        return connection

    @contextmanager
    def transaction(self, begin: str = WRITE) -> Iterator[Cursor]:
        """A cursor inside a transaction that is committed when the block ends well, and rolled back otherwise.

        Values come back in PostgreSQL's binary form, so a float32 is the same 32 bits.

        Args:
            begin: :data:`WRITE`, or :data:`READ`, where all statements see one state of the database.

        Raises:
            StorageError: whatever the server refuses, or a lost connection.
        """
        with self._lock, self.translated():
            if begin != READ:
                self.check_writable()
            if self._busy:
                raise StorageError(f"{self.location}: a call from inside another one; end that one first")
            connection = self._begun(begin)
            self._busy = True
            try:
                with connection.cursor(binary=True) as cursor:
                    yield cursor
                connection.commit()
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
            finally:
                self._busy = False

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """The connection outside of any transaction, for commands that cannot run in one (VACUUM)."""
        self.check_writable()
        with self._lock, self.translated():
            yield self._open()

    def check_writable(self) -> None:
        """Raise StorageError where it was opened to read only."""
        if self.read_only:
            raise StorageError(f"{self.location}: was opened to read only; open it to write")

    def close(self) -> None:
        """Let go of the connection; a later call is an error."""
        with self._lock:
            self._forget()
            self._closed = True

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise every error of the database in the block as a StorageError of one line."""
        psycopg = driver()
        try:
            yield
        except psycopg.Error as error:
            raise self._translation(error) from error

    def _begun(self, begin: str) -> Connection:
        psycopg = driver()
        connection = self._open()
        try:
            connection.execute(begin.encode())
        except psycopg.OperationalError:
            if not connection.broken:
                raise
            # Lost while nobody looked (a restart, a firewall); nothing has been asked for yet, so ask elsewhere.
            self._forget()
            connection = self._open()
            connection.execute(begin.encode())
        return connection

    def _open(self) -> Connection:
        if self._closed:
            raise StorageError(f"{self.location}: was closed; open it again")
        if self._connection is None or self._connection.closed:
            self._forget()
            connection = self.raw_connection()
            try:
                self.enter_schema(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def enter_schema(self, connection: Connection) -> None:
        """Make the connection find the gallery's tables and pgvector's types, and count time in UTC."""
        from pgvector.psycopg import register_vector

        # pgvector may live in any schema; its operators are found through the search path only.
        entered = connection.execute(
            "SELECT set_config('search_path', quote_ident(%s) || ', ' || quote_ident(n.nspname), false), "
            "set_config('timezone', 'UTC', false) "
            "FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
            (self.schema,),
        ).fetchone()
        if entered is None:
            raise StorageError(
                f"{self.location}: the database has no extension vector, so no gallery; create one first"
            )
        register_vector(connection)

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _refusal(self, error: psycopg.Error) -> str:
        said = _line(error)
        if "password" in said and ("failed" in said or "supplied" in said):
            mend = "correct user and password in the address, or in PGPASSWORD or ~/.pgpass"
        elif "does not exist" in said and "database" in said:
            mend = "create the database first (createdb), or correct its name in the address"
        else:
            mend = "start the server, or correct the address"
        return f"cannot be reached ({said}); {mend}"

    def _translation(self, error: psycopg.Error) -> ProbFaceError:
        errors = driver().errors
        said = _line(error)
        if self._connection is not None and self._connection.closed:
            self._forget()
            return StorageError(
                f"{self.location}: the connection was lost ({said}); unless that was in the very commit, nothing of "
                "this call was kept; call again, which connects anew"
            )
        if isinstance(error, errors.InsufficientPrivilege):
            return StorageError(f"{self.location}: not allowed ({said}); let the database's owner grant it")
        if isinstance(error, errors.LockNotAvailable):
            return StorageError(f"{self.location}: others are reading it ({said}); try again when they have ended")
        return StorageError(f"{self.location}: the database refused ({said}); mend that and try again")


def _line(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split()) or type(error).__name__


def driver() -> Any:
    """The module psycopg.

    Raises:
        MissingExtra: it is not installed, or pgvector's part for it is not.
    """
    try:
        import pgvector.psycopg
        import psycopg
    except ImportError as error:
        raise MissingExtra(
            f"a gallery in PostgreSQL needs psycopg and pgvector ({error}); pip install 'probface[postgres]'"
        ) from error
    del pgvector
    return psycopg


def check_gallery(gallery: str) -> str:
    """The name, if a gallery may have it; it becomes part of a schema's name.

    Raises:
        InvalidValue: anything but 1 to 40 of a to z, 0 to 9 and underscore.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,40}", gallery):
        raise InvalidValue(f"gallery {gallery[:60]!r}: must be 1 to 40 of the characters a to z, 0 to 9 and _")
    return gallery


def _parameters(url: str) -> dict[str, Any]:
    psycopg = driver()
    if not url.startswith(SERVERS):
        raise InvalidValue(
            "address of a database: must begin with postgresql://, as in postgresql://user@host/database"
        )
    try:
        given: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {"host": "@"}
    # A password with an @, / or : that is not written as a %-code is cut there, and its rest taken for host, port or
    # database. Nothing of such an address may be shown, nor what the parser says, which quotes it.
    parts = [str(given.get(key) or "") for key in ("host", "hostaddr", "dbname", "user")]
    if any("@" in part for part in parts) or not re.fullmatch(r"[0-9,]*", str(given.get("port") or "")):
        raise InvalidValue(
            "address of a database: cannot be read; write postgresql://user:password@host:port/database, with %-codes "
            "for special characters in user and password"
        )
    return {"connect_timeout": CONNECT_SECONDS, "application_name": "probface", **given, "client_encoding": "UTF8"}


def _address(parameters: dict[str, Any]) -> str:
    user = quote(str(parameters["user"]), safe="") + "@" if parameters.get("user") else ""
    host = quote(str(parameters.get("host") or ""), safe=":,")
    port = f":{parameters['port']}" if parameters.get("port") else ""
    return f"postgresql://{user}{host}{port}/{quote(str(parameters.get('dbname') or ''), safe='')}"
