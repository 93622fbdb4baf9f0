"""The catalogue: each file probed once, in however many runs and processes, whatever kills them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import actionpool.video.probe as probe_module
from actionpool.data.catalog import Catalog, user_cache
from actionpool.errors import ActionPoolError
from actionpool.values import DecodeLimits, VideoInfo
from actionpool.video.probe import ProbeResult
from support.reports import Hearing

INFO = VideoInfo(64, 48, 30000 / 1001, 7, 0.1 + 0.2, 1.5, 90, "h264", "mov,mp4")


class FakeProbe:
    """Stands in for the child processes; says which files were opened, and stops after some if told."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.stop_after: int | None = None

    def __call__(self, paths: Sequence[Path], **options: Any) -> Iterator[ProbeResult]:
        self.options.append(options)
        return self._results(paths)

    def _results(self, paths: Sequence[Path]) -> Iterator[ProbeResult]:
        for path in reversed(paths):  # not in the order of asking
            if self.stop_after is not None and len(self.opened) == self.stop_after:
                raise KeyboardInterrupt
            self.opened.append(str(path))
            reason = None if path.exists() else f"no such file {path.name}"
            yield ProbeResult(str(path), INFO if reason is None else None, 7, reason, "c" * 64, "f\u00e9")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProbe:
    probe = FakeProbe()
    monkeypatch.setattr(probe_module, "probe_videos", probe)
    return probe


def files(folder: Path, num: int) -> list[Path]:
    paths = [folder / f"{i}.mp4" for i in range(num)]
    for path in paths:
        path.write_bytes(b"x" * (1 + int(path.stem)))
    return paths


def test_each_file_is_probed_once(tmp_path: Path, fake: FakeProbe) -> None:
    paths = [*files(tmp_path, 3), tmp_path / "gone.mp4"]
    database = tmp_path / "sub" / "catalog.sqlite"
    with Catalog(database) as catalog:
        first = catalog.probe([*paths, paths[0]])
    assert sorted(fake.opened) == sorted(str(path) for path in paths)
    assert list(first) == paths
    assert first[paths[1]].info == INFO
    assert first[paths[3]].reason == "no such file gone.mp4"
    with Catalog(database) as catalog:
        assert catalog.probe(paths) == first  # to the last bit of fps and duration
        assert catalog.probe(iter(paths[:1])) == {paths[0]: first[paths[0]]}
        assert catalog.probe([]) == {}
    assert len(fake.opened) == 4


def test_what_changed_is_probed_again(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 4)
    with Catalog(tmp_path / "c.sqlite") as catalog:
        catalog.probe([*paths, tmp_path / "late.mp4"])
        fake.opened.clear()
        paths[0].write_bytes(b"longer than before")
        os.utime(paths[1], ns=(1, 1))
        paths[2].unlink()
        (tmp_path / "late.mp4").write_bytes(b"here now")
        results = catalog.probe([*paths, tmp_path / "late.mp4"])
        assert sorted(Path(name).name for name in fake.opened) == ["0.mp4", "1.mp4", "2.mp4", "late.mp4"]
        assert results[paths[2]].reason is not None
        assert results[tmp_path / "late.mp4"].reason is None


def test_another_way_of_probing_is_another_result(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 1)
    with Catalog(tmp_path / "c.sqlite") as catalog:
        limits = DecodeLimits(max_frames=5), DecodeLimits(probe_seconds=1.0)
        for options in ({}, {"mode": "sampled"}, {"limits": limits[0]}, {"limits": limits[1]}):
            catalog.probe(paths, **options)  # type: ignore[arg-type]
            catalog.probe(paths, num_workers=7, **options)  # type: ignore[arg-type]
    assert len(fake.opened) == 4
    assert [options["mode"] for options in fake.options if options["mode"] == "sampled"]
    assert fake.options[0]["limits"] == DecodeLimits()


def test_progress(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 5)
    seen: list[tuple[int, int]] = []
    with Catalog(tmp_path / "c.sqlite") as catalog:
        catalog.probe(paths[:2])
        catalog.probe(paths, report=Hearing(progress=lambda *span: seen.append(span)))
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]


def test_an_interrupted_run_goes_on(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 6)
    fake.stop_after = 4
    with Catalog(tmp_path / "c.sqlite") as catalog, pytest.raises(KeyboardInterrupt):
        catalog.probe(paths)
    fake.stop_after = None
    with Catalog(tmp_path / "c.sqlite") as catalog:
        assert len(catalog.probe(paths)) == 6
    assert len(fake.opened) == len(set(fake.opened)) == 6


def test_quarantine_holds_until_the_file_changes(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 2)
    with Catalog(tmp_path / "c.sqlite") as catalog:
        before = catalog.probe(paths)
        catalog.quarantine(paths[0], "decoded to \udcff in training")
    with Catalog(tmp_path / "c.sqlite") as catalog:
        after = catalog.probe(paths)
        assert after[paths[0]] == replace(before[paths[0]], reason="decoded to \udcff in training")
        assert after[paths[1]] == before[paths[1]]
        paths[0].write_bytes(b"a better copy")
        assert catalog.probe(paths)[paths[0]].reason is None


def test_names_of_any_bytes(tmp_path: Path, fake: FakeProbe) -> None:
    paths = [tmp_path / "\udcff\udc80.mp4", tmp_path / "'; DROP TABLE probes; --.mp4", tmp_path / "new\nline é.mp4"]
    for path in paths:
        path.write_bytes(b"x")
    with Catalog(tmp_path / "c.sqlite") as catalog:
        first = catalog.probe(paths)
        assert catalog.probe(paths) == first
    assert len(fake.opened) == 3


def test_many_files(tmp_path: Path, fake: FakeProbe) -> None:
    paths = [tmp_path / f"{i}.mp4" for i in range(1201)]  # more than one query holds
    with Catalog(tmp_path / "c.sqlite") as catalog:
        first = catalog.probe(paths)
        assert catalog.probe(paths) == first
    assert len(fake.opened) == 1201


def test_beside_the_data_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    data = tmp_path / "data"
    data.mkdir()
    with Catalog.beside(data) as catalog:
        assert catalog.path == data / ".actionpool" / "catalog.sqlite"
        assert catalog.path.exists()
    readonly = tmp_path / "readonly"
    readonly.mkdir()
    readonly.chmod(0o555)
    with Catalog.beside(readonly) as catalog:
        assert catalog.path == user_cache() / "catalog.sqlite" == cache / "actionpool" / "catalog.sqlite"
    assert list(readonly.iterdir()) == []
    with Catalog() as catalog:
        assert catalog.path == cache / "actionpool" / "catalog.sqlite"
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with Catalog.beside(readonly) as catalog:
        assert str(catalog.path) == ":memory:"
    with pytest.raises(ActionPoolError, match=r"cannot open the catalogue .*is its folder writable"):
        Catalog()


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert user_cache() == Path("~/.cache/actionpool").expanduser()


@pytest.mark.parametrize("damage", ["text", "header", "middle"])
def test_a_damaged_catalogue_is_put_aside(tmp_path: Path, fake: FakeProbe, damage: str) -> None:
    paths = files(tmp_path, 200)
    database = tmp_path / "c.sqlite"
    with Catalog(database) as catalog:
        catalog.probe(paths)
    data = bytearray(database.read_bytes())
    if damage == "text":
        data = bytearray(b"this is no database, but it is long enough to be looked at" * 40)
    elif damage == "header":
        data[:64] = bytes(64)
    else:
        data[4096 : 4096 + 3000] = b"\xa5" * 3000
    database.write_bytes(data)
    with Catalog(database) as catalog:
        assert len(catalog.probe(paths)) == 200
    assert (tmp_path / "c.sqlite.damaged").exists()


def test_another_version_starts_anew(tmp_path: Path, fake: FakeProbe) -> None:
    paths = files(tmp_path, 2)
    database = tmp_path / "c.sqlite"
    with Catalog(database) as catalog:
        catalog.probe(paths)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE probes SET result = ?", (json.dumps({"unknown": 1}),))
    connection.commit()
    with Catalog(database) as catalog:
        assert catalog.probe(paths)[paths[0]].info == INFO
    connection.execute("DROP TABLE probes")
    connection.execute("CREATE TABLE probes (other INTEGER)")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with Catalog(database) as catalog:
        assert catalog.probe(paths)[paths[1]].info == INFO
    assert len(fake.opened) == 6


def test_a_failing_write_says_so(tmp_path: Path, fake: FakeProbe) -> None:
    catalog = Catalog(tmp_path / "c.sqlite")
    catalog.close()
    with pytest.raises(ActionPoolError, match=r"the catalogue .* failed .*what was written before is kept"):
        catalog.probe(files(tmp_path, 1))


WORKER = """
import sys, time
from pathlib import Path
import actionpool.video.probe as probe_module
from actionpool.data.catalog import Catalog
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
def fake(paths, **options):
    for path in paths:
        time.sleep(pause)
        yield probe_module.ProbeResult(str(path), None, 0, None, "c", "f")
probe_module.probe_videos = fake
with Catalog(folder / "shared.sqlite") as catalog:
    print(len(catalog.probe([folder / f"{i}.mp4" for i in range(150)])))
"""


def start(folder: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def num_rows(database: Path) -> int:
    connection = sqlite3.connect(database, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM probes").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        connection.close()


def test_several_processes_share_a_new_catalogue(tmp_path: Path) -> None:
    running = [start(tmp_path, 0.0) for _ in range(4)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip()) == (0, "150"), err
    assert num_rows(tmp_path / "shared.sqlite") == 150


def test_a_killed_process_loses_nothing(tmp_path: Path, fake: FakeProbe) -> None:
    process = start(tmp_path, 0.01)
    database = tmp_path / "shared.sqlite"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not database.exists() or num_rows(database) < 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kept = num_rows(database)
    assert 5 <= kept < 150
    with Catalog(database) as catalog:
        assert len(catalog.probe([tmp_path / f"{i}.mp4" for i in range(150)])) == 150
    assert len(fake.opened) == 150 - kept


def test_real_files(tmp_path: Path, clip: Callable[..., Path]) -> None:
    good = clip(tmp_path / "good.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    with Catalog.beside(tmp_path) as catalog:
        results = catalog.probe([good, bad, tmp_path / "gone.mp4"])
        assert results[good].reason is None
        assert results[good].num_decoded == 12
        info = results[good].info
        assert info is not None
        assert (info.width, info.num_frames, info.fps) == (48, 12, 12.0)
        reasons = [results[bad].reason, results[tmp_path / "gone.mp4"].reason]
        assert None not in reasons
        assert len(set(reasons)) == 2
        assert catalog.probe([good, bad, tmp_path / "gone.mp4"]) == results
