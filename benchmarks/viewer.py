"""How soon the viewer is there, how soon it seeks, and that no request makes its server fail.

    python benchmarks/viewer.py [--requests 1000] [--videos 2000] [--hours 1]

Needs Chromium (or ACTIONPOOL_CHROMIUM). Videos and predictions are made up. Prints, in seconds and by the clock:
first paint (from the start of the command, and from the request of the page), a list of many videos (until all are
read; the longest frame while it is scrolled from end to end), seeks in a long video (until the frame is decoded), and
the answers to requests made from the server's description and of noise.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, sync_playwright

from actionpool.results.prediction import write_prediction
from actionpool.video.writer import VideoWriter
from actionpool.viewer.uploads import UploadLimits, UploadQueue

_VIDEO_READY = "() => document.getElementById('video').readyState >= 2"
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SCROLL = """async () => {
  const list = document.getElementById("list");
  const gaps = [];
  let before = performance.now();
  for (let step = 0; step <= 120; step++) {
    list.scrollTop = (list.scrollHeight * step) / 120;
    await new Promise((resolve) => requestAnimationFrame(resolve));
    gaps.push(performance.now() - before);
    before = performance.now();
  }
  return gaps.sort((a, b) => a - b);
}"""
_SEEK = """async (share) => {
  const video = document.getElementById("video");
  const began = performance.now();
  const seeked = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
  const canvas = document.getElementById("timeline");
  const box = canvas.getBoundingClientRect();
  const at = { bubbles: true, clientX: box.left + 128 + share * (box.width - 178), clientY: box.top + 40, button: 0 };
  canvas.setPointerCapture = () => {};
  canvas.dispatchEvent(new PointerEvent("pointerdown", at));
  canvas.dispatchEvent(new PointerEvent("pointerup", at));
  await seeked;
  return (performance.now() - began) / 1000;
}"""


def main() -> None:
    sys.path[0] = str(Path(__file__).parents[1] / "tests")  # not this folder, in which viewer.py is this file
    from support.viewing import chromium

    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=1.0)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        first_paint_and_list(browser, folder / "many", given.videos)
        seek(browser, folder / "long", given.hours)
        browser.close()
        fuzz(folder / "fuzz", given.requests)


@contextmanager
def viewer(out: Path) -> Iterator[tuple[str, float]]:
    """The command as a user types it: its address, and when it was started."""
    began = time.time()
    command = [sys.executable, "-c", "from actionpool.cli.app import main; main()", "view", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit(said)
        said += line
    try:
        yield json.loads(said)["url"], began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def first_paint_and_list(browser: Browser, out: Path, num_videos: int) -> None:
    from support.viewing import made_up

    prediction, curves = made_up("none.mp4", num_segments=60)
    write_prediction(out / "00000.mp4.json", prediction, curves)
    text = (out / "00000.mp4.json").read_text()
    for index in range(1, num_videos):
        (out / f"{index:05d}.mp4.json").write_text(text)
    with viewer(out) as (address, began):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address, wait_until="commit")
        page.wait_for_function(_PAINT)
        paint, origin = page.evaluate(_PAINT) / 1000, page.evaluate("() => performance.timeOrigin") / 1000
        print(f"first paint: {origin + paint - began:.2f} from the command, {paint:.2f} from the request")
        page.wait_for_function(
            "(text) => document.getElementById('count').textContent === text",
            arg=f"{num_videos:,} videos",
            timeout=600_000,
        )
        print(f"list of {num_videos}: all read after {time.time() - began:.1f} from the command")
        gaps = page.evaluate(_SCROLL)
        middle, longest = statistics.median(gaps), gaps[-1]
        print(f"scrolled end to end in 120 steps: frames of {middle:.0f} ms, the longest {longest:.0f} ms")
        page.close()


def seek(browser: Browser, folder: Path, hours: float) -> None:
    from support.viewing import made_up

    clip, fps, size = folder / "long.mp4", 10, (180, 320)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    with VideoWriter(clip, fps=fps, size=size) as writer:
        for index in range(round(hours * 3600 * fps)):
            if index % 50 == 0:
                still = np.roll(still, 7, axis=1)
            writer.write(still)
    seconds = hours * 3600
    write_prediction(folder / "out" / "long.mp4.json", *made_up(clip, num_segments=5600, seconds=seconds))
    with viewer(folder / "out") as (address, _):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_function(_VIDEO_READY, timeout=120_000)
        times = [page.evaluate(_SEEK, share) for share in rng.uniform(0.02, 0.98, 20).tolist()]
        size_mb = clip.stat().st_size / 1e6
        print(
            f"seeks in {hours:g} h ({size_mb:.0f} MB, 5,600 segments): median {statistics.median(times):.3f}, "
            f"longest {max(times):.3f}"
        )
        page.close()


def fuzz(folder: Path, count: int) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    from support.noise import noise
    from support.upload_server import Server
    from support.viewing import TOKEN, make_app, make_folder

    queues: list[Any] = []

    def queue(library: Any) -> Any:
        queues.append(UploadQueue(library, Server.recognise, UploadLimits(max_bytes=1000)))
        return queues[0]

    app, library = make_app(make_folder(folder), uploads=queue)
    client = TestClient(app, base_url="http://127.0.0.1:80", raise_server_exceptions=False)
    client.get(f"/?token={TOKEN}")
    seen: collections.Counter[int] = collections.Counter()
    operations = [one.ok() for one in schemathesis.openapi.from_dict(app.openapi()).get_all_operations()]
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=-(-count // len(operations)), deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def send(case: Any) -> None:
            answer = client.request(case.method, case.formatted_path, params=case.query, content=b"")
            seen[answer.status_code] += 1

        send()
    print(f"requests by the description: {dict(sorted(seen.items()))}")
    seen.clear()
    for request in noise(np.random.default_rng(1), list(library._entries), count):
        seen[client.request(**request).status_code] += 1
    print(f"requests of noise: {dict(sorted(seen.items()))}")
    queues[0].close()


if __name__ == "__main__":
    main()
