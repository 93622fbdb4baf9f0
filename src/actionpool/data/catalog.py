"""A cache of probe results, so that each video file is probed once: SQLite, keyed by path, size and mtime.

The file may be deleted at any time; only entries of `Catalog.quarantine` are lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from actionpool.errors import ActionPoolError
from actionpool.reporting import SILENT, Report
from actionpool.values import DecodeLimits

if TYPE_CHECKING:
    from actionpool.video.probe import ProbeResult

ProbeMode = Literal["full", "sampled"]
FOLDER = ".actionpool"
_SCHEMA = 1
_TABLES = (
    "CREATE TABLE IF NOT EXISTS probes "
    "(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, recipe TEXT, result TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS quarantine "
    "(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, reason TEXT) WITHOUT ROWID",
)
_BUSY_SECONDS = 60.0
_ROWS_AT_ONCE = 500
_MISSING = (-1, -1)


class Catalog:
    """Probe results, kept between runs; several processes may use one file at once.

    A result is committed as soon as it comes, so a killed run goes on where it was. A file that changed (size or mtime)
    or is to be probed in another way is probed anew.

    Args:
        path: the SQLite file; made with its folder. None = ``actionpool/catalog.sqlite`` in the user's cache folder
            (``XDG_CACHE_HOME``). A damaged file is put aside as ``*.damaged``.

    Raises:
        ActionPoolError: the file cannot be made or opened.

    Example:
        >>> with Catalog.beside("clips") as catalog:  # doctest: +SKIP
        ...     results = catalog.probe([Path("clips/jump/1.mp4")])
    """

    def __init__(self, path: Path | None = None) -> None:
        try:
            self.path = user_cache() / "catalog.sqlite" if path is None else path
            self._connection = _open(self.path)
        except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: the user has no home
            where = path or "in the user's cache folder"
            raise ActionPoolError(f"cannot open the catalogue {where} ({error}); is its folder writable?") from error

    @classmethod
    def beside(cls, data: Path | str) -> Catalog:
        """The catalogue of a data folder: in its ``.actionpool``, or where that cannot be written in the user's cache.

        If neither can be written the results are kept in memory only (``path`` is then ``:memory:``).
        """
        folder = Path(data)
        beside = folder / FOLDER / "catalog.sqlite"
        for path in [beside, None] if _may_write(folder) or beside.exists() else [None]:
            with contextlib.suppress(ActionPoolError):
                return cls(path)
        return cls(Path(":memory:"))

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was committed stays."""
        self._connection.close()

    def probe(
        self,
        paths: Iterable[Path],
        *,
        num_workers: int = 2,
        mode: ProbeMode = "full",
        limits: DecodeLimits = DecodeLimits(),  # noqa: B008 - frozen
        report: Report = SILENT,
    ) -> dict[Path, ProbeResult]:
        """What each file is; only what is unknown or changed is opened, in child processes.

        Args:
            paths: the files, existing or not; each is probed once.
            num_workers: child processes.
            mode: decode all of a video, or samples of it.
            limits: what a file may cost, including the time and memory of probing it.
            report: receives the progress after every file, files already known first.

        Returns:
            A result for each path; ``reason`` is None where the video can be used.
        """
        from actionpool.video.probe import probe_videos  # brings NumPy: not before it is needed

        recipe = _recipe(mode, limits)
        by_name = {str(path): path for path in paths}
        stamps = {name: _stamp(path) for name, path in by_name.items()}
        found = self._known(stamps, recipe)
        unknown = [name for name in by_name if name not in found]
        report.progress(len(found), len(by_name))
        probing = probe_videos(
            [by_name[name] for name in unknown],
            num_workers=max(1, min(num_workers, len(unknown))),
            limits=limits,
            mode=mode,
        )
        try:
            for result in probing if unknown else ():
                self._keep(result, stamps[result.path], recipe)
                found[result.path] = result
                report.progress(len(found), len(by_name))
        finally:
            if isinstance(probing, Generator):
                probing.close()  # an interrupt ends the children
        reasons = self._quarantined(stamps)
        return {
            path: replace(found[name], reason=reasons[name]) if name in reasons else found[name]
            for name, path in by_name.items()
        }

    def quarantine(self, path: Path, reason: str) -> None:
        """Puts a file aside (it stays in its place) for a reason that no probe saw; holds until the file changes."""
        with self._errors():
            self._connection.execute(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)",
                (os.fsencode(path), *_stamp(path), json.dumps(reason)),
            )

    def _known(self, stamps: Mapping[str, tuple[int, int]], recipe: str) -> dict[str, ProbeResult]:
        found: dict[str, ProbeResult] = {}
        for name, size, mtime_ns, used, text in self._rows("path, size, mtime_ns, recipe, result", "probes", stamps):
            if (size, mtime_ns) == stamps[name] and used == recipe:
                result = _from_json(name, text)
                if result is not None:
                    found[name] = result
        return found

    def _quarantined(self, stamps: Mapping[str, tuple[int, int]]) -> dict[str, str]:
        rows = self._rows("path, size, mtime_ns, reason", "quarantine", stamps)
        return {name: json.loads(reason) for name, size, mtime_ns, reason in rows if (size, mtime_ns) == stamps[name]}

    def _rows(self, columns: str, table: str, names: Iterable[str]) -> list[tuple[Any, ...]]:
        """Rows of the given paths, the path decoded."""
        keys = [os.fsencode(name) for name in names]
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            part = keys[start : start + _ROWS_AT_ONCE]
            marks = ",".join("?" * len(part))
            with self._errors():
                rows += self._connection.execute(f"SELECT {columns} FROM {table} WHERE path IN ({marks})", part)
        return [(os.fsdecode(row[0]), *row[1:]) for row in rows]

    def _keep(self, result: ProbeResult, stamp: tuple[int, int], recipe: str) -> None:
        with self._errors():
            self._connection.execute(
                "INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?)",
                (os.fsencode(result.path), *stamp, recipe, _to_json(result)),
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ActionPoolError(
                f"the catalogue {self.path} failed ({error}); what was written before is kept. "
                "Free some space, or delete the file: it is a cache"
            ) from error


def user_cache() -> Path:
    """The folder for what may be deleted: ``$XDG_CACHE_HOME/actionpool``, else ``~/.cache/actionpool``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path("~/.cache").expanduser()
    return base / "actionpool"


def _open(path: Path) -> sqlite3.Connection:
    """An open catalogue with its tables; one that SQLite cannot read is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise  # locked, read-only, full: the file itself may be sound
    except sqlite3.DatabaseError:
        path.replace(path.with_name(f"{path.name}.damaged"))
        for part in ("-wal", "-shm"):
            path.with_name(path.name + part).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _retry_while_locked(connection, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # in WAL a power cut costs the last results, nothing else
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        _retry_while_locked(connection, "BEGIN IMMEDIATE")
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema != _SCHEMA:
            connection.execute("DROP TABLE IF EXISTS probes")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _retry_while_locked(connection: sqlite3.Connection, statement: str) -> None:
    """SQLite does not wait by itself while two processes make the same file at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _may_write(folder: Path) -> bool:
    """Whether a folder of ours may be made in ``folder``; its mode counts even for a user who may write anywhere."""
    try:
        return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; (-1, -1) where there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _MISSING
    return status.st_size, status.st_mtime_ns


def _recipe(mode: ProbeMode, limits: DecodeLimits) -> str:
    """Everything that a result depends on beside the file: how it was probed, and by which decoder."""
    from importlib.metadata import version  # 20 ms, which `--help` need not wait for

    costs = asdict(limits)
    values = [mode, costs.pop("probe_seconds"), costs.pop("probe_memory_bytes"), costs, version("av")]
    return json.dumps(values, sort_keys=True)


def _to_json(result: ProbeResult) -> str:
    values = asdict(result)
    del values["path"]
    return json.dumps(values)  # ASCII: a reason may quote a file name that is no UTF-8


def _from_json(name: str, text: str) -> ProbeResult | None:
    """The result, or None where it was written by another version: it is probed again then."""
    from actionpool.values import VideoInfo
    from actionpool.video.probe import ProbeResult

    try:
        values = json.loads(text)
        info = values.pop("info")
        return ProbeResult(path=name, info=None if info is None else VideoInfo(**info), **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
