"""Probe videos in child processes, so that a damaged file cannot crash, hang or fill the memory of the run."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from actionpool.errors import UsageError, VideoError
from actionpool.system import death_in_words
from actionpool.values import DecodeLimits, VideoInfo
from actionpool.video.fingerprint import near_duplicate_pairs

__all__ = ["ProbeResult", "near_duplicate_pairs", "probe_videos"]

_Paths = Iterable[str | os.PathLike[str]]
_START_SECONDS = 60.0  # time for a child to import its libraries


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of probing one file.

    Attributes:
        path: the path as given.
        info: properties of the video; None if its packets could not be listed.
        num_decoded: number of decoded frames: all in full mode, a sample in sampled mode.
        reason: why the file cannot be used, as a sentence without the path; None if it can.
        content_hash: SHA-256 of the file's bytes, hexadecimal; "" if they could not be read.
        frame_hash: fingerprint of the pictures, for ``near_duplicate_pairs``; "" if the file cannot be used.
    """

    path: str
    info: VideoInfo | None
    num_decoded: int
    reason: str | None
    content_hash: str
    frame_hash: str


def probe_videos(
    paths: _Paths,
    *,
    num_workers: int = 2,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 - frozen
    mode: Literal["full", "sampled"] = "full",
) -> Iterator[ProbeResult]:
    """Probe files in a few long-lived child processes.

    A file that hangs, crashes the decoder or exhausts the memory ends its child, which is replaced; the result has the
    reason. Results come in order of completion.

    Args:
        paths: the files; the iterable is consumed as children become free.
        num_workers: number of child processes.
        limits: what a file may cost, including the time and memory of probing it.
        mode: "full" decodes every frame and compares the count with what the file declares; "sampled" lists the
            packets and decodes 8 evenly spaced frames, for long files.

    Raises:
        UsageError: an argument is out of range.
        VideoError: the child process does not start (a broken installation).
    """
    if num_workers < 1 or mode not in ("full", "sampled"):
        raise UsageError(f"probing needs num_workers >= 1 and mode 'full' or 'sampled', got {num_workers} and {mode!r}")
    settings = {"limits": asdict(limits), "mode": mode, "num_threads": max(1, (os.cpu_count() or 1) // num_workers)}
    return _Pool(paths, json.dumps(settings), num_workers, limits.probe_seconds).results()


class _Pool:
    """One thread per child; each hands out paths, waits for answers and enforces the time limit."""

    def __init__(self, paths: _Paths, settings: str, num_workers: int, timeout_seconds: float) -> None:
        self._paths = iter(paths)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Bounded: a slow consumer slows the children down instead of filling memory.
        self._done: queue.Queue[ProbeResult | BaseException | None] = queue.Queue(maxsize=16 * num_workers)
        self._children = [_Child(settings, timeout_seconds) for _ in range(num_workers)]

    def results(self) -> Iterator[ProbeResult]:
        threads = [threading.Thread(target=self._work, args=(child,), daemon=True) for child in self._children]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                while (item := self._done.get()) is not None:  # None: one thread has ended
                    if isinstance(item, BaseException):
                        raise item
                    yield item
        finally:
            self._stopping.set()
            for child in self._children:
                child.stop()
            while any(thread.is_alive() for thread in threads):
                with suppress(queue.Empty):
                    self._done.get(timeout=0.05)  # frees a thread that waits for room

    def _work(self, child: _Child) -> None:
        try:
            while not self._stopping.is_set():
                with self._lock:
                    path = next(self._paths, None)
                if path is None:
                    break
                self._done.put(child.probe(os.fspath(path)))
        except BaseException as error:  # noqa: BLE001 - raised by the consumer
            self._done.put(error)
        finally:
            child.stop()
            self._done.put(None)


class _Child:
    """One child process, started on first use and again after each death."""

    def __init__(self, settings: str, timeout_seconds: float) -> None:
        self._settings, self._timeout_seconds = settings, timeout_seconds
        self._lock = threading.Lock()  # held while starting and stopping
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def probe(self, path: str) -> ProbeResult:
        process = self._running()
        line, timed_out = _exchange(process, json.dumps(str(Path(path).absolute())) + "\n", self._timeout_seconds)
        if line and not timed_out:
            answer: dict[str, Any] = json.loads(line)
            is_last, info = answer.pop("is_last"), answer.pop("info")
            if is_last:
                with self._lock:
                    self._kill()
            return ProbeResult(path=path, info=VideoInfo(**info) if info else None, **answer)
        # Standard output closes before the process ends, and its exit code is known only after that.
        code = _exit_code(process)
        with self._lock:
            self._kill()
        if timed_out:
            reason = f"took longer than {self._timeout_seconds:g} seconds to probe; it may be damaged or very long"
        else:
            reason = f"crashed the decoder ({death_in_words(code)}); it is damaged, get it again"
        return ProbeResult(path, None, 0, reason, "", "")

    def stop(self) -> None:
        """Kill the process at once; no other is started."""
        with self._lock:
            self._stopped = True
            self._kill()

    def _running(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise VideoError("probing was stopped")
            if self._process is not None and self._process.poll() is None:
                return self._process
            self._kill()
            with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
                self._process = _start(self._settings, log)
                ready, _ = _exchange(self._process, "", _START_SECONDS)
                if not ready:
                    self._kill()
                    log.seek(0)
                    raise VideoError(
                        f"the process that probes videos does not start; run 'actionpool doctor' for the cause. "
                        f"It wrote: {log.read()[-2000:].strip() or 'nothing'}"
                    )
            return self._process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # data were left that a dead process did not read
                        pipe.close()
            self._process = None


def _start(settings: str, log: IO[str]) -> subprocess.Popen[str]:
    """Start a child; its output other than answers goes to ``log``."""
    environment = dict(os.environ)
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH")]))
    # NumPy's threads would each reserve address space, and nothing here needs them.
    environment.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MALLOC_ARENA_MAX="2")
    return subprocess.Popen(
        # -P: do not import a file av.py from the working folder.
        [sys.executable, "-P", "-m", "actionpool.video._probe_child", settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        encoding="ascii",
    )


def _exchange(process: subprocess.Popen[str], line: str, timeout_seconds: float) -> tuple[str, bool]:
    """Send a line and wait for the answer: (answer or "", whether it timed out)."""
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(timeout_seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        if process.stdin is None or process.stdout is None:
            return "", False
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
    except (OSError, ValueError):  # the process is gone, or stop() closed the pipe
        answer = ""
    finally:
        timer.cancel()
    return answer, timed_out.is_set()


def _exit_code(process: subprocess.Popen[str]) -> int:
    """Exit code of a process that is ending; it is killed after 10 seconds."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=10)
    process.kill()
    return process.wait()
