"""Optical flow against motions that are known, and its files against kills, other recipes and other videos."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import av
import cv2
import numpy as np
import pytest
from safetensors import safe_open

from actionpool.commands.flow import flow as compute_flow
from actionpool.config.options import FlowOptions
from actionpool.config.sections import FlowRecipe
from actionpool.errors import DataError, UsageError, VideoError
from actionpool.video.flow import (
    NO_MOTION,
    ComputedFlow,
    FlowFolder,
    dequantise,
    flow_fields,
    open_flow,
    picture_size,
    quantise,
    write_flow,
)
from actionpool.video.reader import VideoReader
from support.reports import Hearing

RECIPE = FlowRecipe(short_side=None)


def texture(height, width, seed=0):
    """A smooth random picture, finer and coarser structures over one another."""
    rng = np.random.default_rng(seed)
    sum_ = sum(cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma) * sigma for sigma in (2, 5))
    return (255 * (sum_ - sum_.min()) / np.ptp(sum_)).astype(np.uint8)


def write_drifting(path, motions, size=(64, 96), codec="libx264", seed=0):
    """A video of one picture that moves by (dx, dy) whole pixels from each frame to the next."""
    margin = 40
    large = texture(size[0] + 2 * margin, size[1] + 2 * margin, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "5"} if codec == "libx264" else {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        x = y = margin
        for dx, dy in [(0, 0), *motions]:
            x, y = x - dx, y - dy  # the window goes left, so what it shows goes right
            grey = large[y : y + size[0], x : x + size[1]]
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


MOTIONS = [(2, 0), (0, -3), (-4, 1), (5, 5)]


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_known_shift_is_found_within_half_a_pixel(preset):
    large = texture(180, 220)
    pictures = [large[40:140, 40:180]]
    for dx, dy in MOTIONS:
        pictures.append(large[40 - dy : 140 - dy, 40 - dx : 180 - dx])
        pictures.append(large[40:140, 40:180])
    fields = list(flow_fields(pictures, RECIPE.model_copy(update={"preset": preset})))
    assert len(fields) == len(pictures)
    for (dx, dy), there, back in zip(MOTIONS, fields[0::2], fields[1::2], strict=False):
        for sign, field in ((1, there), (-1, back)):
            inner = dequantise(field, 20.0)[:, 15:-15, 15:-15]
            error = np.hypot(inner[0] - sign * dx, inner[1] - sign * dy)
            assert np.median(error) < 0.3
            assert error.mean() < 0.5


def test_quantisation_bound_and_inverse_by_hand():
    for limit in (20.0, 7.5):
        values = np.linspace(-limit, limit, 10_001, dtype=np.float32)
        assert np.abs(dequantise(quantise(values, limit), limit) - values).max() <= limit / 254 + 1e-5
        for value in (-limit, -limit / 3, 0.0, 0.1, limit):  # the formula of the documentation, in plain Python
            stored = int(quantise(np.array([value]), limit)[0])
            assert stored == round(127 * value / limit) + 128
            assert dequantise(np.array([stored], np.uint8), limit)[0] == pytest.approx((stored - 128) * limit / 127)
    stored = np.arange(1, 256, dtype=np.uint8)
    np.testing.assert_array_equal(quantise(dequantise(stored, 20.0), 20.0), stored)
    np.testing.assert_array_equal(quantise(-dequantise(stored, 20.0), 20.0), 256 - stored.astype(int))
    assert quantise(np.array([-1e9, 1e9, 0.0]), 20.0).tolist() == [1, 255, NO_MOTION]


def test_the_last_field_repeats_and_one_frame_has_no_motion():
    pictures = [texture(48, 64), np.roll(texture(48, 64), 2, axis=1)]
    first, last = flow_fields(pictures, RECIPE)
    np.testing.assert_array_equal(first, last)
    assert (first[0] != NO_MOTION).any()
    (only,) = flow_fields(pictures[:1], RECIPE)
    assert only.shape == (2, 48, 64)
    assert (only == NO_MOTION).all()


def test_pictures_are_taken_one_by_one():
    """However long the video is, memory holds two pictures: the third is not asked for before a field was taken."""
    taken = []

    def pictures():
        for number in range(6):
            taken.append(number)
            yield texture(32, 32, number)

    for number, _ in enumerate(flow_fields(pictures(), RECIPE)):
        assert len(taken) == min(number + 2, 6)


def test_a_flat_picture_does_not_move():
    flat = np.full((40, 50), 90, np.uint8)
    assert all((field == NO_MOTION).all() for field in flow_fields([flat, flat, flat], RECIPE))


def test_pictures_too_small_for_flow():
    with pytest.raises(VideoError, match="fails on pictures of 8x8 pixels, which may be too small"):
        list(flow_fields([np.zeros((8, 8), np.uint8)] * 2, RECIPE))


def test_size_is_at_most_the_videos_own(tmp_path):
    info = ComputedFlow(write_drifting(tmp_path / "v.mp4", MOTIONS), RECIPE).info
    assert picture_size(info, FlowRecipe(short_side=256)) == (64, 96)
    assert picture_size(info, FlowRecipe(short_side=32)) == (32, 48)
    with ComputedFlow(tmp_path / "v.mp4", FlowRecipe(short_side=32)) as flow:
        assert flow.fields_at([0, 1]).shape == (2, 2, 32, 48)


def test_file_equals_a_plain_loop_over_decoded_frames(tmp_path):
    video = write_drifting(tmp_path / "v.mp4", MOTIONS)
    num_bytes = write_flow(video, tmp_path / "v.safetensors", RECIPE, content_hash="h")
    assert num_bytes == (tmp_path / "v.safetensors").stat().st_size
    with VideoReader(video) as reader:
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in reader.frames_at(range(5))]
        times = reader.timestamps_seconds
    matcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    with safe_open(tmp_path / "v.safetensors", framework="numpy") as file:
        stored = file.get_tensor("flow")
    assert stored.shape == (5, 2, 64, 96)
    for i in range(5):
        flow = matcher.calc(grey[min(i, 3)], grey[min(i, 3) + 1], None)
        for axis in range(2):
            expected = np.rint(flow[..., axis].clip(-20, 20) * 127 / 20) + 128
            assert np.abs(stored[i, axis] - expected).max() <= 1  # a tie may round either way
            assert (stored[i, axis] != expected).mean() < 1e-3
    read = open_flow(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(read.timestamps_seconds, times)
    assert read.info.num_frames == 5
    wanted = [3, 0, 0, 4, 1]
    np.testing.assert_array_equal(read.fields_at(wanted), stored[wanted])
    with ComputedFlow(video, RECIPE) as computed:
        np.testing.assert_array_equal(computed.fields_at(wanted), stored[wanted])
    for source in (read, ComputedFlow(video, RECIPE)):
        for outside in (-1, 5):
            with pytest.raises(VideoError, match="0 to 4"):
                source.fields_at([0, outside])


def test_one_frame(tmp_path):
    video = write_drifting(tmp_path / "v.mp4", [])
    write_flow(video, tmp_path / "v.safetensors", RECIPE, content_hash="h")
    assert (open_flow(tmp_path / "v.safetensors").fields_at([0]) == NO_MOTION).all()
    with ComputedFlow(video, RECIPE) as computed:
        assert (computed.fields_at([0, 0]) == NO_MOTION).all()
        with pytest.raises(VideoError, match="0 to 0"):
            computed.fields_at([1])


# --- a folder of flow ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """Two classes of three small videos."""
    for number in range(3):
        for label, sign in (("left", -1), ("right", 1)):
            motions = [(sign * 2, 0)] * (3 + number)
            write_drifting(tmp_path / "data" / label / f"{number}.mp4", motions, seed=10 * number + sign + 1)
    return tmp_path / "data"


def stamps(folder):
    """Name to (inode, bytes) of every flow file."""
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.read_bytes()) for p in sorted(folder.rglob("*.safetensors"))
    }


def quarantine(folder):
    with (folder / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        return {row["video"]: row["reason"] for row in csv.DictReader(file)}


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_second_run_computes_nothing(data, tmp_path):
    seen = []
    first = compute_flow(data, tmp_path / "flow", report=Hearing(progress=lambda *args: seen.append(args)))
    assert (first.num_videos, first.num_computed, first.num_kept, first.quarantined) == (6, 6, 0, {})
    assert seen[-1] == (30, 30)
    before = stamps(tmp_path / "flow")
    assert set(before) == {f"fields/{label}/{n}.mp4.safetensors" for label in ("left", "right") for n in range(3)}
    assert sum(len(content) for _, content in before.values()) == first.num_bytes
    again = compute_flow(data, tmp_path / "flow")
    assert (again.num_computed, again.num_kept, again.num_bytes) == (0, 6, 0)
    assert stamps(tmp_path / "flow") == before
    assert leftovers(tmp_path / "flow") == []


def test_what_is_missing_cut_or_changed_is_computed_anew(data, tmp_path):
    compute_flow(data, tmp_path / "flow")
    before = stamps(tmp_path / "flow")
    fields = tmp_path / "flow" / "fields"
    (fields / "left" / "0.mp4.safetensors").unlink()
    cut = fields / "left" / "1.mp4.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    (fields / "left" / ".part-killed.safetensors").write_bytes(b"half")
    write_drifting(data / "right" / "2.mp4", [(0, 3)] * 5, seed=99)
    shutil.copy(data / "right" / "0.mp4", data / "right" / "new.mp4")
    os.utime(data / "right" / "1.mp4")  # touched, and the same: kept
    result = compute_flow(data, tmp_path / "flow")
    assert (result.num_computed, result.num_kept) == (4, 3)
    after = stamps(tmp_path / "flow")
    for name in ("left/0", "left/1"):
        assert after[f"fields/{name}.mp4.safetensors"][1] == before[f"fields/{name}.mp4.safetensors"][1]
    assert after["fields/right/1.mp4.safetensors"] == before["fields/right/1.mp4.safetensors"]
    motion = dequantise(open_flow(fields / "right" / "2.mp4.safetensors").fields_at([2])[0], 20.0)[:, 15:-15, 15:-15]
    assert np.median(motion[1]) == pytest.approx(3, abs=0.3)
    assert leftovers(tmp_path / "flow") == []


def test_interrupted_work_leaves_whole_files_and_goes_on(data, tmp_path):
    whole = compute_flow(data, tmp_path / "whole")
    assert whole.num_computed == 6

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_flow(data, tmp_path / "flow", options=FlowOptions(num_workers=1), report=Hearing(progress=stop))
    for path in (tmp_path / "flow").rglob("*.safetensors"):
        open_flow(path)
    assert leftovers(tmp_path / "flow") == []
    result = compute_flow(data, tmp_path / "flow")
    assert result.num_computed + result.num_kept == 6
    contents = [{name: content for name, (_, content) in stamps(tmp_path / f).items()} for f in ("whole", "flow")]
    assert contents[0] == contents[1]


def test_another_recipe_is_refused_and_changes_nothing(data, tmp_path):
    compute_flow(data, tmp_path / "flow")
    before = stamps(tmp_path / "flow")
    differences = "preset: fast, not medium.*short_side: 256, not 32"
    with pytest.raises(UsageError, match=f"another recipe than the requested one .*{differences}.*never mixed"):
        compute_flow(data, tmp_path / "flow", options=FlowOptions(preset="medium", short_side=32))
    assert stamps(tmp_path / "flow") == before


def test_a_file_of_another_recipe_in_the_folder_is_computed_anew(data, tmp_path):
    compute_flow(data, tmp_path / "flow")
    compute_flow(data, tmp_path / "small", options=FlowOptions(short_side=32))
    name = "fields/left/0.mp4.safetensors"
    right = (tmp_path / "flow" / name).read_bytes()
    shutil.copy(tmp_path / "small" / name, tmp_path / "flow" / name)
    assert compute_flow(data, tmp_path / "flow").num_computed == 1
    assert (tmp_path / "flow" / name).read_bytes() == right


def test_a_broken_video_is_quarantined_and_stops_nothing(data, tmp_path):
    (data / "left" / "empty.mp4").touch()
    cut = data / "left" / "cut.mp4"
    cut.write_bytes((data / "left" / "2.mp4").read_bytes()[:-700])
    result = compute_flow(data, tmp_path / "flow")
    assert (result.num_videos, result.num_computed) == (8, 6)
    assert quarantine(tmp_path / "flow") == dict(result.quarantined)
    assert set(result.quarantined) == {"left/empty.mp4", "left/cut.mp4"}
    assert "0 bytes" in result.quarantined["left/empty.mp4"]
    shutil.copy(data / "left" / "2.mp4", cut)  # repaired
    assert compute_flow(data, tmp_path / "flow").num_computed == 1
    assert set(quarantine(tmp_path / "flow")) == {"left/empty.mp4"}


def test_a_video_that_breaks_after_its_probe_is_quarantined(data, tmp_path, monkeypatch):
    def broken(self):
        raise VideoError("frame 3 cannot be decoded")

    original = ComputedFlow.all_fields
    monkeypatch.setattr(
        ComputedFlow, "all_fields", lambda self: broken(self) if self.info.num_frames == 6 else original(self)
    )
    result = compute_flow(data, tmp_path / "flow")
    assert dict(result.quarantined) == {f"{label}/2.mp4": "frame 3 cannot be decoded" for label in ("left", "right")}
    assert result.num_computed == 4
    assert leftovers(tmp_path / "flow") == []


def test_nothing_is_written_into_other_folders(data, tmp_path):
    with pytest.raises(UsageError, match="holds no flow, so nothing is written into it"):
        compute_flow(data, data)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be a folder"):
        compute_flow(data, tmp_path / "file")
    with pytest.raises(UsageError, match="at least 16 pixels"):
        compute_flow(data, tmp_path / "flow", options=FlowOptions(short_side=4))
    with pytest.raises(UsageError, match="at least one video"):
        compute_flow(data, tmp_path / "flow", options=FlowOptions(num_workers=0))


def test_a_full_disk_is_a_sentence_and_keeps_what_was_done(data, tmp_path, monkeypatch):
    from actionpool.errors import ActionPoolError

    calls = []

    def full(self, *args):
        calls.append(self)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return write(self, *args)

    write = ComputedFlow.all_fields
    monkeypatch.setattr(ComputedFlow, "all_fields", full)
    with pytest.raises(ActionPoolError, match=r"No space left on device.*kept"):
        compute_flow(data, tmp_path / "flow", options=FlowOptions(num_workers=1))
    assert len(stamps(tmp_path / "flow")) == 3
    assert leftovers(tmp_path / "flow") == []


HOLD = """
import sys
from pathlib import Path
from actionpool.files import writing_into
from actionpool.reporting import SILENT
with writing_into(Path(sys.argv[1]), SILENT):
    print("held", flush=True)
    sys.stdin.readline()
"""

COMPUTE = """
import sys
from actionpool.commands.flow import flow as compute_flow
compute_flow(sys.argv[1], sys.argv[2], num_workers=1)
"""


def test_two_writers_take_turns(data, tmp_path):
    (tmp_path / "flow").mkdir()
    said = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "flow")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"

        def tell(sentence):
            said.append(sentence)
            other.stdin.write("\n")
            other.stdin.flush()

        result = compute_flow(data, tmp_path / "flow", report=Hearing(tell))
    assert "waiting for it" in said[0]
    assert result.num_computed == 6


def test_a_killed_command_is_gone_on_with(data, tmp_path):
    compute_flow(data, tmp_path / "whole")
    with subprocess.Popen([sys.executable, "-c", COMPUTE, str(data), str(tmp_path / "flow")]) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("flow/fields/*/*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    for path in tmp_path.glob("flow/fields/*/[!.]*"):
        open_flow(path)
    result = compute_flow(data, tmp_path / "flow")
    assert result.num_computed + result.num_kept == 6
    contents = [{name: content for name, (_, content) in stamps(tmp_path / f).items()} for f in ("whole", "flow")]
    assert contents[0] == contents[1]
    assert leftovers(tmp_path / "flow") == []


# --- files from strangers --------------------------------------------------------------------------------------------


def test_files_that_are_no_flow(tmp_path):
    video = write_drifting(tmp_path / "v.mp4", MOTIONS)
    path = tmp_path / "v.safetensors"
    write_flow(video, path, RECIPE, content_hash="h")
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + length])

    def refused(table, sentence, body=whole[8 + length :]):
        text = json.dumps(table).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        with pytest.raises(VideoError, match=sentence):
            open_flow(path)

    with pytest.raises(VideoError, match="there is no flow at"):
        open_flow(tmp_path / "none.safetensors")
    for damaged in (b"", b"x" * 100, whole[: length + 20], whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(VideoError, match="cannot be read as flow"):
            open_flow(path)
    refused({k: v for k, v in head.items() if k != "__metadata__"}, "not flow that 'actionpool flow' wrote")
    other = {**head, "flow": {**head["flow"], "shape": [10, 1, 64, 96]}}
    refused(other, r"expected \(F, 2, h, w\)")
    other = {**head, "flow": {**head["flow"], "shape": [5, 4, 32, 96]}}
    refused(other, "contradict each other")
    said = json.loads(head["__metadata__"]["actionpool"])
    for change, sentence in (
        ({"format": "actionpool-flow-9"}, "another version: format"),
        ({"recipe": {"short_side": 3}}, "recipe.short_side"),
        ({"extra": 1}, "extra"),
        ({"info": {**said["info"], "num_frames": 9}}, "contradict each other"),
        ({"info": {**said["info"], "duration_seconds": float("nan")}}, "contradict each other"),
    ):
        refused({**head, "__metadata__": {"actionpool": json.dumps({**said, **change})}}, sentence)
    refused(head, "contradict each other", np.array([0, 1, 3, 2, 4], "<f8").tobytes() + whole[8 + length + 40 :])


def test_the_video_must_be_the_one_that_was_computed_from(tmp_path):
    from actionpool.files import file_hash

    video = write_drifting(tmp_path / "v.mp4", MOTIONS)
    write_flow(video, tmp_path / "v.safetensors", RECIPE, content_hash=file_hash(video))
    flow = open_flow(tmp_path / "v.safetensors")
    flow.check_video(video)
    os.utime(video, (1, 1))  # copied without its time
    flow.check_video(video)
    changed = bytearray(video.read_bytes())
    changed[-1] ^= 1
    video.write_bytes(changed)
    with pytest.raises(VideoError, match="changed since its flow was computed"):
        flow.check_video(video)
    video.unlink()
    with pytest.raises(VideoError, match="does not exist"):
        flow.check_video(video)


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a/../../x", "n" * 255, "é" * 120, "a//b", ".", "\udcff"])
def test_flow_files_stay_inside_their_folder(tmp_path, name):
    folder = FlowFolder(tmp_path / "flow")
    path = folder.file_of(name)
    assert path.resolve().is_relative_to(folder.fields.resolve())
    assert len(os.fsencode(path.name)) < 240
    assert folder.file_of("a/b.mp4") != folder.file_of("a/b.avi")


def test_folders_without_a_recipe(tmp_path):
    with pytest.raises(DataError, match=r"holds no optical flow; run 'actionpool flow DATA -o"):
        FlowFolder(tmp_path).recipe()
    (tmp_path / "recipe.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match="not a recipe of this version: format"):
        FlowFolder(tmp_path).recipe()
