"""``actionpool flow``: optical flow of a whole data set, in a folder that training reads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actionpool.config.options import FlowOptions
from actionpool.config.sections import FlowRecipe
from actionpool.data.catalog import Catalog
from actionpool.data.sources import read_source
from actionpool.errors import UsageError, VideoError
from actionpool.files import remove_leftovers, write_csv, writing_into
from actionpool.reporting import SILENT, Report
from actionpool.system import num_cores
from actionpool.video.flow import FlowFolder, open_flow, write_flow
from actionpool.video.probe import ProbeResult

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class FlowResult:
    """What ``flow`` wrote.

    Attributes:
        num_computed: videos computed by this command.
        num_kept: videos computed before, from the same bytes by the same recipe.
        num_bytes: bytes written by this command.
        quarantined: video to the reason why it has no flow.
    """

    output: Path
    recipe: FlowRecipe
    num_videos: int
    num_computed: int
    num_kept: int
    num_bytes: int
    quarantined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        quarantined = [{"video": video, "reason": reason} for video, reason in sorted(self.quarantined.items())]
        plain = {"output": str(self.output), "recipe": self.recipe.model_dump()}
        return {**asdict(self), **plain, "num_quarantined": len(quarantined), "quarantined": quarantined}


def flow(
    data: str | Path, output: str | Path, *, options: FlowOptions = FlowOptions(), report: Report = SILENT
) -> FlowResult:
    """Compute the optical flow of every video of a data set.

    Finished work is kept: a video whose bytes and recipe match its flow file is skipped, so the same command continues
    after an interruption and adds new videos. Two commands on one folder take turns.

    Args:
        data: a folder, table or list.
        output: the folder for the flow; new, empty, or written before by the same recipe.
        options: how to read the data and compute the flow.
        report: receives notes, and the progress in frames.

    Raises:
        UsageError: ``output`` holds flow of another recipe, or something else.
        AnnotationError: the data cannot be understood.
        ActionPoolError: the folder cannot be written; what was finished is kept.

    Example:
        >>> flow("clips", "flow").num_computed  # doctest: +SKIP
        36
    """
    if options.num_workers is not None and options.num_workers < 1:
        raise UsageError(f"--num-workers got {options.num_workers}; at least one video is computed at a time")
    if 0 < options.short_side < 16:
        raise UsageError(f"--short-side got {options.short_side}; flow needs pictures of at least 16 pixels")
    recipe = FlowRecipe(preset=options.preset, short_side=options.short_side or None)
    folder = FlowFolder(Path(output))
    source = read_source(data, format=options.format, videos=options.videos, kind=options.kind)
    if source.features is not None:
        raise UsageError(f"{data} holds features, not videos; flow is computed from the videos themselves")
    paths = {example.video: example.path for example in source.examples}
    with writing_into(folder.path, report) as locked:
        folder.begin(recipe)
        if locked:
            remove_leftovers(folder.path)
        with Catalog.beside(source.root) as catalog:
            probes = catalog.probe(dict.fromkeys(paths.values()))
        work = _Work(folder, recipe, paths, probes)
        try:
            work.run(options.num_workers or num_cores(), report)
        finally:
            write_csv(folder.quarantine, ("video", "reason"), sorted(work.quarantined.items()))
    if work.quarantined:
        report.note(f"{len(work.quarantined)} of {len(paths)} videos have no flow; see {folder.quarantine}.")
    return FlowResult(
        folder.path, recipe, len(paths), work.num_computed, work.num_kept, work.num_bytes, work.quarantined
    )


class _Stopped(Exception):
    """Ends a worker's video half way."""


class _Work:
    """The videos of one command: threads, since decoder and flow compute without the interpreter's lock."""

    def __init__(
        self, folder: FlowFolder, recipe: FlowRecipe, paths: Mapping[str, Path], probes: Mapping[Path, ProbeResult]
    ) -> None:
        self._folder, self._recipe, self._paths, self._probes = folder, recipe, paths, probes
        self._num_fields, self._lock, self._stop = 0, threading.Lock(), threading.Event()
        self.quarantined: dict[str, str] = {}
        self.num_computed = self.num_kept = self.num_bytes = 0

    def run(self, num_workers: int, report: Report) -> None:
        """Compute what is missing; VideoErrors are counted as quarantined, others end the command."""
        wanted = self._missing()
        infos = [self._probes[self._paths[video]].info for video in wanted]
        total = sum(info.num_frames for info in infos if info is not None)
        with ThreadPoolExecutor(num_workers, thread_name_prefix="flow") as pool:
            running = {self._submit(pool, video): video for video in wanted}
            try:
                while running:
                    finished, _ = wait(running, timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
                    for future in finished:
                        self._take(running.pop(future), future)
                    report.progress(self._num_fields, total)
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _missing(self) -> list[str]:
        """The videos to work on; the others are counted as kept or quarantined."""
        wanted = []
        for video, path in self._paths.items():
            probe = self._probes[path]
            if probe.reason is not None:
                self.quarantined[video] = probe.reason
            elif self._is_done(video, probe):
                self.num_kept += 1
            else:
                wanted.append(video)
        return wanted

    def _is_done(self, video: str, probe: ProbeResult) -> bool:
        try:
            header = open_flow(self._folder.file_of(video)).header
        except VideoError:  # absent, or damaged: computed anew
            return False
        return header.recipe == self._recipe and header.content_hash == probe.content_hash

    def _submit(self, pool: Executor, video: str) -> Future[int]:
        path, target = self._paths[video], self._folder.file_of(video)
        content_hash = self._probes[path].content_hash
        return pool.submit(write_flow, path, target, self._recipe, content_hash=content_hash, on_field=self._count)

    def _count(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        with self._lock:
            self._num_fields += 1

    def _take(self, video: str, future: Future[int]) -> None:
        try:
            self.num_bytes += future.result()
            self.num_computed += 1
        except VideoError as error:
            self.quarantined[video] = str(error)
