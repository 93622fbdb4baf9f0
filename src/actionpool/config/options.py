"""The options of every verb: written once, here, for Python and for the command line.

A field's ``Option`` carries its help text and, where the option is a shorthand, the key of the configuration it sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "bf16", "fp32"]
Overrides = Iterable[str] | Mapping[str, object]
"""``dotted.key=value`` strings, or a mapping from dotted keys to values."""


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is shown on the command line, and which key of the configuration it sets.

    Attributes:
        help: one noun phrase or imperative.
        flags: other names than ``--field-name``.
        sets: dotted key of the configuration; None if the verb itself uses the value.
        minimum: smallest number allowed.
    """

    help: str
    flags: tuple[str, ...] = ()
    sets: str | None = None
    minimum: float | None = None


_BackboneWeights = Annotated[
    str | None,
    Option("Initial backbone weights: a .safetensors file, or 'default' to download.", sets="model.backbone.weights"),
]
_Views = Annotated[str | None, Option("Views per video as CLIPSxCROPS, such as 10x1 or 10x3; the run's if not given.")]
_Fuse = Annotated[Path | None, Option("Second run, as one on flow, whose probabilities are averaged with the first's.")]
_Fusion = Annotated[str, Option("Weights of RUN and of the fused run.")]
_Group = Annotated[str | None, Option("Column whose values stay on one side of every split.", sets="data.group")]
_SplitColumn = Annotated[
    str | None, Option("Column of train, val or test; official lists: split1 to split3.", sets="data.split_column")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How labelled data is read."""

    format: Annotated[str, Option("Format of the data; 'auto' detects and reports it.", sets="data.format")] = "auto"
    videos: Annotated[Path | None, Option("Folder of a list's videos, if not beside it.", sets="data.videos")] = None
    untrimmed: Annotated[
        bool | None,
        Option(
            "Labels hold somewhere inside a video (untrimmed) or for all of it (trimmed); inferred if not given.",
            flags=("--untrimmed/--trimmed",),
            sets="data.kind",
        ),
    ] = None
    feature_timing: Annotated[
        str | None,
        Option(
            "FPS/STRIDE or FPS/STRIDE/WINDOW of a feature pack's rows, as in 25/16; inferred if not given.",
            sets="data.feature_timing",
        ),
    ] = None

    @property
    def kind(self) -> Literal["trimmed", "untrimmed"] | None:
        """``untrimmed`` as sources name it; None infers it."""
        return None if self.untrimmed is None else "untrimmed" if self.untrimmed else "trimmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions(SourceOptions):
    """How labelled data is read and divided."""

    split_column: _SplitColumn = None
    folds: Annotated[
        int | None,
        Option("Number of cross-validation folds; as many as groups leaves one group out.", sets="data.folds"),
    ] = None
    fold: Annotated[int | None, Option("Fold that is the test part, counted from 0.", sets="data.fold")] = None
    group: _Group = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where and how a network runs."""

    device: Annotated[Device, Option("Device to compute on.")] = "auto"
    precision: Annotated[Precision, Option("Numeric precision; 'auto' takes bf16 where it is fast.")] = "auto"
    compiled: Annotated[
        bool, Option("Run torch.compile first; pays off after some hundred videos.", flags=("--compile",))
    ] = False
    batch_size: Annotated[int, Option("Videos per batch.", minimum=1)] = 4
    num_workers: Annotated[
        int | None,
        Option("Decoding processes; 0 decodes in the main process. Chosen by the machine if not given.", minimum=0),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(DataOptions):
    """Shorthands for the configuration of a training run; what is None stays as the preset has it."""

    weights: _BackboneWeights = None
    allow_pickle_weights: Annotated[
        bool | None, Option("Accept weights in a trusted .pt or .pth file.", sets="train.allow_pickle_weights")
    ] = None
    freeze: Annotated[
        str | None, Option("Backbone parts to hold fixed: 'all', or stages as in stem..stage3.", sets="train.freeze")
    ] = None
    freeze_bn: Annotated[
        Literal["none", "all", "all-but-first"] | None,
        Option("Backbone batch norms to hold fixed.", sets="train.freeze_bn"),
    ] = None
    epochs: Annotated[int | None, Option("Passes over the training videos.", sets="train.epochs")] = None
    batch_size: Annotated[
        int | None,
        Option("Videos per training step; an eighth of the videos, 4 to 32, if not given.", sets="train.batch_size"),
    ] = None
    seed: Annotated[int | None, Option("Random seed.", sets="train.seed")] = None
    device: Annotated[Device | None, Option("Device to train on.", sets="train.device")] = None
    precision: Annotated[Precision | None, Option("Numeric precision of training.", sets="train.precision")] = None
    flow: Annotated[
        Path | None, Option("Folder of 'actionpool flow': learn from motion instead of colour.", sets="data.flow")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions(SourceOptions):
    """How a trained run looks at labelled data."""

    views: _Views = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(ViewOptions):
    """What ``evaluate`` does besides reading the data."""

    fuse: _Fuse = None
    fusion: _Fusion = "1:1.5"
    flow: Annotated[Path | None, Option("Folder of the optical flow; the run's own if not given.")] = None
    protocol: Annotated[str | None, Option("Protocol that scores detections, like thumos14-213 or anet1.2-val.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """What ``predict`` looks at, looks for and writes."""

    views: _Views = None
    fuse: _Fuse = None
    fusion: _Fusion = "1:1.5"
    segment_seconds: Annotated[
        float | None, Option("Scan whole videos in segments of this many seconds and report time intervals.")
    ] = None
    formats: Annotated[
        str,
        Option(
            "Comma-separated output formats: json (always written), csv, srt, vtt, activitynet.", flags=("--format",)
        ),
    ] = "json"
    weights: Annotated[Path | None, Option("Weights of the network behind the training features, if moved.")] = None
    annotate: Annotated[bool, Option("Also write each video with its label burnt in.")] = False
    saliency: Annotated[bool, Option("Use Grad-CAM where the network has no spatial attention.")] = False
    overlay: Annotated[bool, Option("Also write each video with saliency and running scores.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions(SourceOptions):
    """What ``extract`` shows the network, and how it stores the features."""

    weights: Annotated[str | None, Option("Weights of a named network: a file, or 'default' to download.")] = None
    frames_per_clip: Annotated[
        int | None,
        Option("Frames per clip; the network's own if not given.", flags=("--clip-frames", "--frames-per-clip")),
    ] = None
    frame_stride: Annotated[
        int | None,
        Option("Frames from one to the next; 1 or the run's if not given.", flags=("--clip-stride", "--frame-stride")),
    ] = None
    clips_per_segment: Annotated[int | None, Option("Clips per segment; 1 or the run's if not given.")] = None
    segment_seconds: Annotated[float | None, Option("Seconds per segment; its clips' length if not given.")] = None
    num_segments: Annotated[
        int | None, Option("Number of equal segments per video, instead of a length.", flags=("--segments",))
    ] = None
    maps: Annotated[bool, Option("Keep maps (D, t, h, w) per segment instead of pooling them.")] = False
    dtype: Annotated[Literal["float16", "float32"], Option("Type of the stored numbers.")] = "float16"
    batch_size: Annotated[int, Option("Clips per batch.", minimum=1)] = 8
    device: Annotated[Device, Option("Device to compute on.")] = "auto"
    precision: Annotated[Precision, Option("Numeric precision; 'auto' takes bf16 where it is fast.")] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions(SourceOptions):
    """How ``flow`` computes motion."""

    short_side: Annotated[
        int, Option("Largest shorter side, in pixels, to compute motion on; 0 keeps the video's own.", minimum=0)
    ] = 256
    preset: Annotated[
        Literal["ultrafast", "fast", "medium"],
        Option("Preset of DIS; 'medium' halves the error at 5 to 10 times the time."),
    ] = "fast"
    num_workers: Annotated[int | None, Option("Videos computed at once; one per core if not given.", minimum=1)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpliceOptions(DataOptions):
    """What ``splice`` puts into a video."""

    videos: Annotated[
        Path | None,
        Option("Folder of the clips of a list, if not beside it.", flags=("--clip-folder",), sets="data.videos"),
    ] = None
    actions_per_video: Annotated[str, Option("MIN:MAX actions per video.")] = "1:3"
    background: Annotated[
        str | None, Option("Class or folder of videos played between actions; held frames if not given.")
    ] = None
    background_seconds: Annotated[str, Option("MIN:MAX seconds of each stretch between actions.")] = "1:3"
    size: Annotated[str | None, Option("HEIGHTxWIDTH; the commonest of the clips if not given.")] = None
    fps: Annotated[float | None, Option("Frames per second; the clips' median if not given.", minimum=1)] = None
    seed: Annotated[int, Option("Random seed.", minimum=0)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AblateOptions(SourceOptions):
    """What all trainings of an ablation share."""

    seeds: Annotated[str, Option("Random seeds of training, as in 0,1,2.")] = "0"
    weights: _BackboneWeights = None
    folds: Annotated[int | None, Option("Number of cross-validation folds, all of which are trained.")] = None
    group: _Group = None
    split_column: _SplitColumn = None
    device: Annotated[Device, Option("Device to compute on.", sets="train.device")] = "auto"
    precision: Annotated[Precision, Option("Numeric precision of training.", sets="train.precision")] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerOptions:
    """How ``view`` serves predictions."""

    videos: Annotated[Path | None, Option("Folder of the videos, if they were moved.")] = None
    port: Annotated[int, Option("Port; 0 takes any free one.", minimum=0)] = 0
    open_browser: Annotated[bool, Option("Open the address in the default browser.", flags=("--open",))] = False
    allow_upload: Annotated[bool, Option("Recognise videos dropped on the page; needs --run.")] = False
    run: Annotated[Path | None, Option("Run that recognises uploads.")] = None
    max_upload_mb: Annotated[int, Option("Largest upload, in megabytes.", minimum=1)] = 512
    max_upload_seconds: Annotated[float, Option("Longest uploaded video, in seconds.", minimum=1)] = 600
    device: Annotated[Device, Option("Device to compute on.")] = "auto"
    precision: Annotated[Precision, Option("Numeric precision; 'auto' takes bf16 where it is fast.")] = "auto"


def assignments(options: object) -> dict[str, object]:
    """What some options set in the configuration: dotted key to value, for each field that was given.

    Example:
        >>> assignments(TrainOptions(epochs=3, folds=5))
        {'data.folds': 5, 'train.epochs': 3}
    """
    hints = get_type_hints(type(options), include_extras=True)
    found: dict[str, object] = {}
    for field in fields(options):  # type: ignore[arg-type]
        option, value = option_of(hints[field.name]), getattr(options, field.name)
        if option is not None and option.sets is not None and value != field.default:
            found[option.sets] = value
    if "data.kind" in found:
        found["data.kind"] = "untrimmed" if found["data.kind"] else "trimmed"
    return {key: str(value) if isinstance(value, Path) else value for key, value in found.items()}


def option_of(hint: Any) -> Option | None:
    """The ``Option`` in an ``Annotated`` type."""
    return next((part for part in get_args(hint)[1:] if isinstance(part, Option)), None)
