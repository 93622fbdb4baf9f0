"""Copies of a video with the prediction drawn over it and beneath it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from actionpool.results.prediction import VideoPrediction
from actionpool.show.moments import Floats, Moments
from actionpool.show.saliency import HeatPainter, SaliencyTrack
from actionpool.show.sheet import DETECTION, MARK, RELEVANCE, SCORE, font_path, plain_text, rgb
from actionpool.values import Curves, VideoInfo
from actionpool.video.reader import Frame, VideoReader
from actionpool.video.writer import VideoWriter

_Pixels = NDArray[np.uint8]
_LEAST_SIDE = 240  # pixels; smaller frames are enlarged so that labels are legible
_MOST_CLASSES = 3
_GROUND, _WHITE = 24, (230, 230, 230)


def write_annotated(video: Path, prediction: VideoPrediction, output: Path) -> None:
    """Write ``video`` with its most probable class on a band along the top; frame times and audio are kept.

    Raises:
        VideoError: the video cannot be decoded.
    """
    with VideoReader(video) as reader:
        info = reader.info
        scale = _enlargement(info)
        size = (info.height * scale, info.width * scale)
        band = _TopBand(prediction, size)
        with VideoWriter(output, fps=info.fps, size=size, copy_audio_from=video) as writer:
            for frame in reader.iter_frames():
                pixels = _enlarged(frame.pixels, scale)
                band.paint(pixels)
                writer.write(pixels, seconds=frame.seconds - info.start_seconds)


def write_overlay(video: Path, prediction: VideoPrediction, curves: Curves, output: Path) -> None:
    """Write ``video`` with its label and saliency, and beneath it the class scores over time with a moving mark.

    Frame times and audio are kept. Saliency is left out if the curves have no spatial maps.

    Raises:
        VideoError: the video cannot be decoded.
    """
    with VideoReader(video) as reader:
        info = reader.info
        scale = _enlargement(info)
        height, width = info.height * scale, info.width * scale
        panel = _Panel(prediction, Moments.of(curves, prediction.model.task).in_order(), height, width)
        band = _TopBand(prediction, (height, width))
        track, painter = None, None
        if curves.spatial is not None and prediction.spatial is not None:
            track, painter = SaliencyTrack(prediction, curves), HeatPainter(prediction.spatial, height, width)
        size = (height + panel.height, width)
        with VideoWriter(output, fps=info.fps, size=size, copy_audio_from=video) as writer:
            for frame in _ahead(reader):
                seconds = frame.seconds - info.start_seconds
                pixels = np.empty((*size, 3), np.uint8)
                picture = pixels[:height]
                picture[:] = _enlarged(frame.pixels, scale)
                if track is not None and painter is not None:
                    painter.paint(picture, track.heat_at(seconds))
                band.paint(picture)
                panel.paint(pixels[height:], seconds)
                writer.write(pixels, seconds=seconds)


def _ahead(reader: VideoReader) -> Iterator[Frame]:
    """All frames; the next one is decoded while the caller works on the current one."""
    frames = reader.iter_frames()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def _enlargement(info: VideoInfo) -> int:
    return max(1, -(-_LEAST_SIDE // min(info.height, info.width)))


def _enlarged(pixels: _Pixels, scale: int) -> _Pixels:
    """The frame with each pixel repeated ``scale`` times in both directions."""
    return pixels if scale == 1 else pixels.repeat(scale, axis=0).repeat(scale, axis=1)


class _TopBand:
    """The video's label on a darkened strip along the top of each frame."""

    def __init__(self, prediction: VideoPrediction, size: tuple[int, int]) -> None:
        label, probability = prediction.top(1)[0]
        height = max(20, size[0] // 14)
        self._ink = cv2.merge([_text_ink(f"{label}  {probability:.0%}", size[1], height)] * 3)

    def paint(self, picture: _Pixels) -> None:
        top = picture[: len(self._ink)]
        # The picture under the band is darkened so that the text is readable on it.
        top[:] = np.maximum(cv2.convertScaleAbs(top, alpha=0.33), self._ink[: len(top)])


class _Panel:
    """The strip beneath the picture: one row per likely class, truth and detections, and the moving mark.

    The strip is drawn once; per frame only the mark and the current scores are added.
    """

    def __init__(self, prediction: VideoPrediction, when: Moments, height: int, width: int) -> None:
        order = np.argsort(-np.asarray(prediction.probabilities), kind="stable")[:_MOST_CLASSES]
        self._when = when
        self._row = max(18, min(height, width) // 18)
        self._left = int(width * 0.28)
        self._right = width - max(4, self._row // 3)
        self._end = max(prediction.duration_seconds, float(when.bounds.max()), 1e-3)
        self._scores = when.scores[:, order]
        self._thickness = max(1, width // 320)
        has_bands = bool(prediction.truth or prediction.detections)
        rows = len(order) + 1 + has_bands
        self.height = rows * self._row + self._row // 3
        self._still = np.full((self.height, width, 3), _GROUND, np.uint8)
        percent = int(self._row * 2.4)
        self._percent = (self._left - percent, self._left)
        for number, index in enumerate(order.tolist()):
            self._name(number, prediction.classes[index], self._left - percent)
            self._curve(number, when.scores[:, index], rgb(SCORE))
        highest = float(when.relevance.max())
        self._name(len(order), "relevance", self._left)
        self._curve(len(order), when.relevance / highest if highest > 0 else when.relevance, rgb(RELEVANCE))
        if has_bands:
            self._bands(len(order) + 1, prediction)
        self._figures = [_text_ink(f"{value}%", percent, self._row, align="right") for value in range(101)]

    def paint(self, target: _Pixels, seconds: float) -> None:
        """Fill ``target`` ``(height, width, 3)`` for a time."""
        target[:] = self._still
        at = int(np.searchsorted(self._when.bounds[:, 1], seconds, side="right"))
        at = min(at, len(self._scores) - 1)
        for number, score in enumerate(self._scores[at]):
            ink = self._figures[round(100 * min(max(float(score), 0.0), 1.0))]
            place = target[number * self._row : (number + 1) * self._row, self._percent[0] : self._percent[1]]
            np.maximum(place, ink[..., None], out=place)
        mark = self._x(seconds)
        target[:, mark : mark + self._thickness] = rgb(MARK)

    def _x(self, seconds: float) -> int:
        last = self._right - self._thickness
        return min(last, self._left + int(seconds / self._end * (self._right - self._left)))

    def _name(self, number: int, text: str, room: int) -> None:
        ink = _text_ink(text, max(1, room), self._row)
        self._still[number * self._row : (number + 1) * self._row, : ink.shape[1]] |= ink[..., None]

    def _curve(self, number: int, values: Floats, colour: tuple[int, int, int]) -> None:
        base = (number + 1) * self._row - max(1, self._row // 8)
        room = self._row - 2 * max(1, self._row // 8)
        self._still[base, self._left : self._right] = 90
        for (start, end), value in zip(self._when.bounds, np.clip(np.nan_to_num(values), 0, 1), strict=True):
            top = base - round(float(value) * room)
            self._stretch((top, base), start, end, colour)

    def _bands(self, number: int, prediction: VideoPrediction) -> None:
        """Truth above, detections below, of all classes together."""
        self._name(number, "truth / detected", self._left)
        top, half = number * self._row, self._row // 2
        for true in prediction.truth:
            self._stretch((top + 2, top + half), true.start_seconds, true.end_seconds, _WHITE)
        highest = max((one.score for one in prediction.detections), default=1.0)
        for one in sorted(prediction.detections, key=lambda one: one.score):
            share = min(max(one.score / highest, 0.2), 1.0) if highest > 0 else 1.0
            red, green, blue = (round(_GROUND + share * (part - _GROUND)) for part in rgb(DETECTION))
            rows = (top + half + 1, top + self._row)
            self._stretch(rows, one.start_seconds, one.end_seconds, (red, green, blue))

    def _stretch(self, rows: tuple[int, int], start: float, end: float, colour: tuple[int, int, int]) -> None:
        left = self._x(start)
        self._still[rows[0] : rows[1], left : max(self._x(end), left + 1)] = colour


def _text_ink(text: str, width: int, height: int, *, align: str = "left") -> _Pixels:
    """Draw a line of text, shrunk and if necessary shortened until it fits.

    Returns:
        ``(height, width)``: 0 without ink, 255 full ink.
    """
    margin = height * 0.2
    line, size = plain_text(text), max(8, int(height * 0.66))
    font = ImageFont.truetype(font_path(), size)
    while size > 9 and font.getlength(line) > width - 2 * margin:
        size -= 1
        font = ImageFont.truetype(font_path(), size)
    while len(line) > 1 and font.getlength(line) > width - 2 * margin:
        line = plain_text(text, len(line) - 1)
    image = Image.new("L", (width, height))
    place = (margin, height / 2) if align == "left" else (width - margin, height / 2)
    ImageDraw.Draw(image).text(place, line, fill=255, font=font, anchor="lm" if align == "left" else "rm")
    return np.asarray(image)
