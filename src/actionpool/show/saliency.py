"""Spatial maps over frames: where the network looks, for figures and videos.

Maps are shown in multiples of an even share: 1 is the value of every place if the network looks everywhere alike. Only
larger values are coloured, so that a network without a preference leaves its video uncoloured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from actionpool.errors import DataError, UsageError
from actionpool.results.prediction import SpatialView, VideoPrediction
from actionpool.show.moments import Floats, Moments, read_with_curves, thumbnails
from actionpool.show.sheet import GREY, MARK, Sheet, check_suffix, font_families, heat_table
from actionpool.values import Curves

_LEAST_TOP = 2.0
"""Least end of the colour scale, in multiples of an even share, so that noise is not amplified."""

_STRENGTH, _GAMMA = 0.7, 0.8  # opacity of the strongest heat, and how it grows from none


class SaliencyTrack:
    """The spatial maps of a prediction at any time of its video.

    Each of the t maps of a segment belongs to the middle of an equal part of the segment. Values are interpolated
    linearly between maps and constant before the first and after the last one.

    Args:
        prediction: says what the maps show.
        curves: hold them.

    Attributes:
        view: what the maps show, and the rectangle of the frame that they cover.
        times_seconds: ``(S,)`` time of each map, ascending.
        maps: ``(S, h, w)`` in multiples of an even share.
        top: end of the colour scale, in multiples of an even share: the median of the maps' peaks.

    Raises:
        DataError: the prediction has no spatial maps.
    """

    def __init__(self, prediction: VideoPrediction, curves: Curves) -> None:
        if curves.spatial is None or prediction.spatial is None:
            raise DataError(
                f"the prediction of {prediction.video} has no spatial maps: predict again with --saliency (one crop a "
                "clip: --views Nx1)"
            )
        self.view: SpatialView = prediction.spatial
        maps = np.nan_to_num(curves.spatial.float().numpy())  # (N, t, h, w)
        num_steps = maps.shape[1]
        stretches = np.array([(s.start_seconds, s.end_seconds) for s in prediction.segments], np.float64)
        parts = (np.arange(num_steps) + 0.5) / num_steps
        times = (stretches[:, :1] + (stretches[:, 1:] - stretches[:, :1]) * parts).ravel()  # (N t,)
        order = np.argsort(times, kind="stable")
        self.times_seconds = times[order]
        self.maps = maps.reshape(-1, *maps.shape[2:])[order] * (maps.shape[2] * maps.shape[3])
        # The median peak: with the highest one, a single sharp map would leave all others uncoloured.
        self.top = max(_LEAST_TOP, float(np.median(self.maps.max(axis=(1, 2)))))

    def at(self, seconds: float) -> NDArray[np.float32]:
        """The map ``(h, w)`` at a time, in multiples of an even share."""
        after = int(np.searchsorted(self.times_seconds, seconds))
        if after == 0 or after == len(self.times_seconds):
            return np.asarray(self.maps[min(after, len(self.times_seconds) - 1)], np.float32)
        before, gap = self.times_seconds[after - 1], self.times_seconds[after] - self.times_seconds[after - 1]
        share = (seconds - before) / gap if gap > 0 else 0.0
        return np.asarray((1 - share) * self.maps[after - 1] + share * self.maps[after], np.float32)

    def heat_at(self, seconds: float) -> NDArray[np.float32]:
        """The map ``(h, w)`` at a time, scaled from 0 (an even share or less) to 1 (``top``)."""
        return np.asarray(np.clip((self.at(seconds) - 1) / (self.top - 1), 0, 1), np.float32)


class HeatPainter:
    """Draws heat on frames of one size.

    Args:
        view: the rectangle that the maps cover.
        height, width: size of the frames in pixels.
    """

    def __init__(self, view: SpatialView, height: int, width: int) -> None:
        left, right = round(view.left * width), round(view.right * width)
        top, bottom = round(view.top * height), round(view.bottom * height)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        # Only the part of the rectangle inside the frame can be painted.
        self.rows = slice(min(max(top, 0), height), min(max(bottom, 0), height))
        self.columns = slice(min(max(left, 0), width), min(max(right, 0), width))
        self._size = (right - left, bottom - top)
        self._inside = (
            slice(self.rows.start - top, self.rows.stop - top),
            slice(self.columns.start - left, self.columns.stop - left),
        )
        steps = np.arange(256, dtype=np.float32) / 255
        # Weak heat is transparent, so that it fades into the picture without an edge.
        self._opacity = np.rint(steps**_GAMMA * _STRENGTH * 255).astype(np.uint8)
        self._colours = heat_table()[None]  # (1, 256, 3)

    def paint(self, pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> None:
        """Paint heat ``(h, w)`` in [0, 1] over a frame ``(H, W, 3)``, in place."""
        target = pixels[self.rows, self.columns]
        if not target.size or float(heat.max(initial=0.0)) <= 0:
            return
        # Colour and opacity are looked up at low resolution and enlarged, which is cheaper than a look-up per pixel.
        small = cv2.resize(heat, _small(self._size), interpolation=cv2.INTER_CUBIC)
        level = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
        opacity = cv2.LUT(level, self._opacity)
        colours = cv2.LUT(cv2.merge([level] * 3), self._colours)
        weight = cv2.merge([255 - opacity] * 3)
        glow = cv2.multiply(colours, cv2.merge([opacity] * 3), scale=1 / 255)
        weight = cv2.resize(weight, self._size, interpolation=cv2.INTER_LINEAR)[self._inside]
        glow = cv2.resize(glow, self._size, interpolation=cv2.INTER_LINEAR)[self._inside]
        target[:] = cv2.add(cv2.multiply(target, weight, scale=1 / 255), glow)


def _small(size: tuple[int, int], most: int = 96) -> tuple[int, int]:
    scale = min(1.0, most / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def plot_saliency(
    prediction: str | Path, output: str | Path, *, video: str | Path | None = None, max_frames: int = 12
) -> None:
    """Draw a grid of frames with the saliency of each.

    Args:
        prediction: a JSON file that ``predict`` wrote.
        output: the figure; .png, .svg or .pdf.
        video: the video file; None = the path in the prediction.
        max_frames: one frame per segment, evenly thinned to this many.

    Raises:
        DataError: the prediction has no spatial maps, or one of the files cannot be read.
        UsageError: the suffix is not that of a figure, or ``max_frames`` is below 1.
    """
    check_suffix(Path(output))
    found, curves = read_with_curves(Path(prediction))
    path = Path(video or found.video)
    if not path.is_file():
        raise DataError(f"{path} is not there; say where the video of {prediction} lies with --video")
    _draw(found, curves, video=path, max_frames=max_frames).save(Path(output))


def _draw(prediction: VideoPrediction, curves: Curves, *, video: Path, max_frames: int = 12) -> Sheet:
    """The figure of ``plot_saliency``, before it is written."""
    if max_frames < 1:
        raise UsageError(f"max_frames got {max_frames}; show at least 1 frame")
    track = SaliencyTrack(prediction, curves)
    when = Moments.of(curves, prediction.model.task).in_order()
    chosen = when.spread(max_frames)
    pictures = thumbnails(video, when.centres[chosen].tolist(), short_side=240)
    sheet, columns, cell = _grid(prediction, len(chosen))
    best = int(np.argmax(prediction.probabilities))
    label, probability = prediction.classes[best], prediction.probabilities[best]
    source = "attention of the network" if track.view.source == "attention" else "Grad-CAM"
    sheet.heading(Path(prediction.video).name, f"{label} · {probability:.0%}")
    note = f"{source} · {len(chosen)} of {len(prediction.segments)} segments · dashed: what the network sees"
    sheet.text(note, 0.15, 0.46, size=8, color=GREY, room=sheet.width - 0.3)
    for number, (index, picture) in enumerate(zip(chosen.tolist(), pictures, strict=True)):
        row, column = divmod(number, columns)
        place = (0.15 + column * (cell[0] + 0.1), 0.65 + row * (cell[1] + 0.3))
        seconds = float(when.centres[index])
        _cell(sheet.axes(*place, *cell), picture, track, seconds)
        score = f"{seconds:.1f} s   {when.scores[index, best]:.0%}"
        sheet.text(score, place[0] + cell[0] / 2, place[1] + cell[1] + 0.11, size=7.5, align="center", room=cell[0])
    _scale(sheet, track)
    return sheet


def _grid(prediction: VideoPrediction, count: int) -> tuple[Sheet, int, tuple[float, float]]:
    """The page, its columns, and the width and height of a picture on it, in inches."""
    aspect = float(np.clip(prediction.width / prediction.height, 0.3, 4.0))
    columns = min(count, 6 if aspect < 1 else 4)
    width = min(9.7 / columns - 0.1, 2.6, 2.6 * aspect)
    rows = -(-count // columns)
    sheet = Sheet(max(6.0, 0.2 + columns * (width + 0.1)), 0.65 + rows * (width / aspect + 0.3) + 0.45)
    return sheet, columns, (width, width / aspect)


def _cell(axes: Axes, picture: NDArray[np.uint8], track: SaliencyTrack, seconds: float) -> None:
    pixels = picture.copy()
    height, width = pixels.shape[:2]
    HeatPainter(track.view, height, width).paint(pixels, track.heat_at(seconds))
    axes.imshow(pixels, aspect="auto", interpolation="antialiased")
    view = track.view
    across: Sequence[float] = np.clip([view.left, view.right, view.right, view.left, view.left], 0, 1) * width - 0.5
    down: Sequence[float] = np.clip([view.top, view.top, view.bottom, view.bottom, view.top], 0, 1) * height - 0.5
    axes.plot(across, down, color=MARK, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _scale(sheet: Sheet, track: SaliencyTrack) -> None:
    """The legend: colour to multiples of an even share."""
    axes = sheet.axes(0.15, sheet.height - 0.36, 1.8, 0.12)
    ramp: Floats = np.linspace(0, 1, 256)[None, :]
    # Over mid grey, with the opacity of heat on a picture.
    opacity = ramp[..., None] ** _GAMMA * _STRENGTH
    shown = opacity * heat_table()[None] / 255 + (1 - opacity) * 0.6
    axes.imshow(shown, aspect="auto", extent=(1, track.top, 0, 1))
    axes.set_xticks([1, (1 + track.top) / 2, track.top], ["1×", f"{(1 + track.top) / 2:.3g}×", f"≥ {track.top:.3g}×"])
    axes.tick_params(labelsize=7, length=2, pad=1, labelfontfamily=font_families())
    sheet.text("times an even share; up to 1× is not coloured", 2.2, sheet.height - 0.3, size=7.5, color=GREY)
