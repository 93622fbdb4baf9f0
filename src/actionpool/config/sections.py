"""The sections of a configuration besides ``model``, and the configuration that they make up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, model_validator

from actionpool.config.model import FeaturesBackbone, ModelConfig, Strict
from actionpool.config.options import Device, Precision
from actionpool.values import DecodeLimits


class Recipe(Strict):
    """Everything that stored numbers depend on, except the video they were computed from.

    Two stores may be used together if their recipes are equal.
    """

    def differences(self, other: Self) -> list[str]:
        """``"name: this value, not that of other"`` for each field that differs."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [f"{name}: {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


class FlowRecipe(Recipe):
    """How the optical flow of a video is computed."""

    method: Literal["dis"] = Field("dis", description="Algorithm: OpenCV's dense inverse search.")
    preset: Literal["ultrafast", "fast", "medium"] = Field(
        "fast",
        description="Iterations and grid of DIS. fast takes a fifth to a tenth of the time of medium and errs by about "
        "0.1 pixel more, one quantisation step (benchmarks/flow.py).",
    )
    short_side: int | None = Field(
        256,
        ge=16,
        description="Shorter side, in pixels, of the frames that motion is computed on; smaller videos keep their "
        "size, and none keeps the size of every video.",
    )
    max_motion_pixels: float = Field(20.0, gt=0, allow_inf_nan=False, description="Larger components are clipped.")
    version: Literal[1] = Field(1, description="Version of the computation, raised whenever its results change.")


FeatureType = Literal["float16", "float32"]


class FeatureRecipe(Recipe):
    """How the features of a video are computed."""

    backbone: dict[str, Any] = Field(description="Section model.backbone of the configuration.")
    weights_hash: str = Field(description="SHA-256 over the names and values of the network's tensors.")
    pooling: dict[str, Any] | None = Field(description="Section model.pooling; none stores maps without pooling.")
    frames_per_clip: int = Field(ge=1, description="Frames in a clip.")
    frame_stride: int = Field(ge=1, description="Distance between a clip's frames.")
    clips_per_segment: int = Field(ge=1, description="Clips in a segment.")
    segment_seconds: FiniteFloat | None = Field(gt=0, description="Seconds in a segment; none is its clips' length.")
    num_segments: int | None = Field(ge=1, description="Equal segments per video; none follows segment_seconds.")
    edge: Literal["stretch", "loop", "hold", "error"] = Field(
        description="What a clip does that is longer than its video; see sampling.edge."
    )
    transform: dict[str, Any] = Field(description="Section transform: size and normalisation of the frames.")
    dtype: FeatureType = Field(description="Type of the stored numbers.")
    precision: Literal["bf16", "fp32"] = Field(description="Precision that the network ran in.")


class SamplingConfig(Strict):
    """Which frames are read of a video: N segments of M clips of T frames."""

    frames_per_clip: int = Field(16, ge=1, description="T, frames in a clip.")
    frame_stride: int = Field(4, ge=1, description="Distance between a clip's frames; 1 reads consecutive frames.")
    clips_per_segment: int = Field(1, ge=1, description="M, clips in a segment.")
    train_segments: int = Field(1, ge=1, description="N in training.")
    val_segments: int = Field(3, ge=1, description="N in validation during training, which is cheaper than the test.")
    test_segments: int = Field(10, ge=1, description="N in evaluation and prediction.")
    test_crops: Literal[1, 3, 5, 10] = Field(1, description="Crops of each segment in evaluation and prediction.")
    test_sampler: Literal["uniform", "multi-view"] = Field(
        "multi-view",
        description="Places of the test segments: in the middle of equal parts (uniform), or from the first to the "
        "last possible clip (multi-view).",
    )
    edge: Literal["stretch", "loop", "hold", "error"] = Field(
        "stretch",
        description="What a clip does that is longer than its video: spread its frames over the video (stretch), start "
        "over (loop), repeat the last frame (hold), or fail (error).",
    )


class FeatureRowsConfig(Strict):
    """Which rows of a feature file are read; without effect on decoded video."""

    train: Literal["window", "perturbed", "uniform", "all"] = Field(
        "window",
        description="Rows in training: all of them or a random stretch of train_segments (window), a random one in "
        "each of train_segments equal parts (perturbed), evenly spaced ones (uniform), or all.",
    )
    train_segments: int = Field(750, ge=1, description="N in training; for window the largest N.")
    test: Literal["all", "uniform"] = Field("all", description="Rows in evaluation and prediction.")
    test_segments: int = Field(750, ge=1, description="N in evaluation and prediction where test is uniform.")
    recipe: FeatureRecipe | None = Field(None, description="How the features were computed, also for new videos.")
    network: str | None = Field(None, description="Origin of the weights behind the features: a file, a name or a run.")


class TransformConfig(Strict):
    """From decoded frames to network input. Lengths are in pixels; what is not set is taken from the backbone."""

    resize: tuple[int, int] | None = Field(
        (0, 0), description="(height, width) to resize frames to; none keeps their size, (0, 0) is the backbone's."
    )
    short_side: int | None = Field(None, ge=8, description="Shorter side to resize to in proportion; replaces resize.")
    crop: int = Field(0, ge=0, description="Side of the square crop; 0 is the backbone's.")
    scale_jitter: tuple[float, ...] = Field(
        (), description="Sizes of training crops as fractions of the shorter side, at corners or the centre (TSN)."
    )
    flip: bool = Field(True, description="Mirror training videos at random.")
    mean: tuple[float, ...] = Field((), description="Mean per channel of values in [0, 1]; empty is the backbone's.")
    std: tuple[float, ...] = Field(
        (), description="Standard deviation per channel of values in [0, 1]; empty is the backbone's."
    )


class LossConfig(Strict):
    """Terms of the loss besides that of the labels, for any aggregation; 0 switches a term off."""

    sparsity: float = Field(0.0, ge=0, description="Weight of the mean relevance (few segments matter); needs sigmoid.")
    co_activity: float = Field(
        0.0, ge=0, description="Weight of W-TALC's loss on pairs of videos that share a class; wants large batches."
    )
    co_activity_margin: float = Field(0.5, ge=0, le=2, description="Margin of its cosine distances.")
    auxiliary: float = Field(1.0, ge=0, description="Weight of the aggregation's own loss (bas-net).")


class TrainConfig(Strict):
    """How the network is trained."""

    epochs: int = Field(50, ge=1, description="Passes over the training videos.")
    batch_size: int | Literal["auto"] = Field(
        "auto", description="Videos per batch; auto is an eighth of the training videos, 4 to 32."
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added before each step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimizer.")
    learning_rate: float = Field(1e-4, gt=0, description="Base learning rate.")
    backbone_learning_rate_factor: float = Field(
        1.0, gt=0, description="Factor on the learning rate of the backbone, except for its gates."
    )
    bias_learning_rate_factor: float = Field(
        1.0, gt=0, description="Factor on the learning rate of biases and norms (TSN: 2)."
    )
    decay_biases: bool = Field(True, description="Apply weight decay to biases and norms too (TSN does not).")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay.")
    schedule: Literal["step", "cosine", "constant"] = Field("step", description="Course of the learning rate.")
    step_epochs: int = Field(4, ge=1, description="Epochs between the steps of schedule step.")
    step_factor: float = Field(0.95, gt=0, le=1, description="Factor on the learning rate at each step.")
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs in which the learning rate rises from 0.")
    gradient_clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0 does not clip.")
    freeze: str | None = Field(
        None,
        min_length=1,
        description="Backbone parts to hold fixed: 'all', a stage, or a range (stem..stage3, ..stage3, stage2..).",
    )
    freeze_bn: Literal["none", "all", "all-but-first"] = Field(
        "none", description="Backbone batch norms whose averages, weights and biases are held fixed."
    )
    allow_pickle_weights: bool = Field(False, description="Accept .pt and .pth files, by torch's restricted reader.")
    sampler: Literal["shuffle", "class-balanced"] = Field(
        "shuffle",
        description="shuffle: every video once per epoch; class-balanced: as many draws, with every class equally "
        "likely, so that videos of rare classes repeat.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target that is spread over all classes; single-label only."
    )
    attention_warmup: float = Field(
        0.25, ge=0, le=0.5, description="Share of the steps in which attention over segments is held uniform."
    )
    early_stopping_epochs: int = Field(
        0, ge=0, description="Epochs without a better validation score before training stops; 0 never stops early."
    )
    seed: int = Field(0, ge=0, description="Random seed.")
    device: Device = Field("auto", description="Device to train on.")
    num_devices: int = Field(1, ge=1, description="Devices per machine; more than 1 trains with DDP.")
    num_nodes: int = Field(1, ge=1, description="Machines.")
    precision: Precision = Field("auto", description="Numeric precision; auto is bf16 where it is fast.")
    num_workers: int | Literal["auto"] = Field(
        "auto", description="Decoding processes; 0 decodes in the main process, auto depends on the machine."
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Least time between resumable checkpoints; 0 writes one after every epoch."
    )


class FlowConfig(Strict):
    """Optical flow in place of RGB: which fields the network reads, and how they are computed."""

    path: str = Field("", description="Folder of 'actionpool flow'; if empty, flow is computed while videos are read.")
    stack: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Consecutive fields in one frame, two channels each; none is 5 for single frames (TSN) and 1 for "
        "clips (I3D).",
    )
    recipe: FlowRecipe | None = Field(None, description="How the fields are computed; none takes it from the folder.")


def _flow_folder(value: object) -> object:
    """Allow ``flow: FOLDER`` beside ``flow: {path: FOLDER}``."""
    return {"path": value} if isinstance(value, str) else value


class DataConfig(Strict):
    """What is learnt from, and which examples are kept for validation and test."""

    path: str = Field("", description="Folder or file of the data.")
    format: str = Field("auto", description="Format of the data; auto detects it.")
    videos: str | None = Field(None, description="Folder of the videos of a list, if they do not lie beside it.")
    kind: Literal["auto", "trimmed", "untrimmed"] = Field(
        "auto", description="Labels hold for a whole example (trimmed) or somewhere in it (untrimmed); auto infers it."
    )
    feature_timing: str | None = Field(
        None, description="FPS/STRIDE or FPS/STRIDE/WINDOW in frames of a feature pack's rows (25/16); none infers it."
    )
    flow: Annotated[FlowConfig | None, BeforeValidator(_flow_folder)] = Field(
        None, description="Optical flow to read in place of RGB."
    )
    split_column: str | None = Field(None, description="Column of train, val or test; official lists: split1..split3.")
    folds: int | None = Field(None, ge=2, description="Number of cross-validation folds.")
    fold: int | None = Field(None, ge=0, description="Fold that is the test part, counted from 0.")
    group: str | None = Field(None, description="Column whose values stay on one side of every split.")
    val_fraction: float = Field(0.15, ge=0, lt=1, description="Share of the examples for validation.")
    test_fraction: float = Field(0.15, ge=0, lt=1, description="Share of the examples for the test.")
    split_seed: int = Field(0, ge=0, description="Random seed of the split.")
    limits: DecodeLimits = Field(DecodeLimits(), description="Limits on what reading a single video may cost.")


class LocalizeSettings(Strict):
    """From scores over time to intervals (docs/explanation/localization.md)."""

    class_threshold: float = Field(
        0.1, ge=0, le=1, description="Video probability above which intervals of a class are searched."
    )
    always_best_class: bool = Field(
        False, description="Search intervals of the most probable class even if no class exceeds the threshold."
    )
    source: Literal["product", "gate"] = Field(
        "product",
        description="Curve that is searched: class score times relevance (product), or class score where relevance "
        "reaches gate_threshold and 0 elsewhere (gate).",
    )
    relevance_scale: Literal["maximum", "as-is"] = Field(
        "maximum",
        description="Divide relevance by its largest value (maximum), or leave it (as-is). Relevance that sums to 1 "
        "over the segments is small.",
    )
    gate_threshold: float = Field(0.5, ge=0, le=1, description="Least scaled relevance of source gate.")
    cells_per_segment: int = Field(
        8, ge=1, le=1000, description="Cells per segment of the finer grid on which the curve is interpolated linearly."
    )
    thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        min_length=1,
        max_length=100,
        description="Heights at which the curve is cut; each cut gives candidates.",
    )
    threshold_scale: Literal["range", "maximum", "absolute"] = Field(
        "range",
        description="Scale of thresholds: from the curve's least (0) to its greatest value (1) (range), from 0 to its "
        "greatest value (maximum), or the curve's units (absolute).",
    )
    merge_gap_seconds: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Candidates of one threshold that lie closer than this are joined."
    )
    outer_margin: float = Field(
        0.25, ge=0, le=10, description="Length of the surroundings on each side, as a share of the candidate's length."
    )
    video_score_weight: float = Field(
        1.0, ge=0, le=100, description="Weight of the class's video probability in a detection's score."
    )
    whole_video: bool = Field(
        True, description="Propose the whole video as a candidate of each class that is searched, beside the cuts."
    )
    whole_video_contrast: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Outer-inner contrast that the whole video counts with, in the curve's own units (probability): "
        "only a cut that stands out by more ranks above it.",
    )
    min_range: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Smallest difference between the curve's greatest and least value, in the curve's own units "
        "(probability), at which it is cut; below, only the whole video is proposed. The default is about the error of "
        "a network's probabilities.",
    )
    min_length_seconds: float = Field(0.0, ge=0, allow_inf_nan=False, description="Shorter candidates are dropped.")
    max_length_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Longer candidates are dropped; none keeps any length."
    )
    nms: Literal["hard", "soft", "none"] = Field(
        "hard",
        description="Non-maximum suppression within a class: drop a detection that overlaps a better one by more than "
        "nms_tiou (hard), multiply its score by 1 - tIoU (soft), or do neither (none).",
    )
    nms_tiou: float = Field(0.5, ge=0, le=1, description="Temporal intersection over union above which nms acts.")
    min_score: float = Field(0.0, ge=0, allow_inf_nan=False, description="Detections scored this or less are dropped.")
    max_detections: int = Field(200, ge=1, description="Largest number of detections per video; the best are kept.")

    @model_validator(mode="after")
    def _consistent(self) -> LocalizeSettings:
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError(f"thresholds {self.thresholds} are not all in [0, 1]")
        if self.max_length_seconds is not None and self.max_length_seconds < self.min_length_seconds:
            raise ValueError(
                f"max_length_seconds {self.max_length_seconds} is below min_length_seconds {self.min_length_seconds}"
            )
        return self


class Config(Strict):
    """Everything about a run; stored in its folder and in every checkpoint."""

    model: ModelConfig = Field(ModelConfig(), description="The network.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="Which frames are read of a video.")
    features: FeatureRowsConfig = Field(FeatureRowsConfig(), description="Which rows of a feature file are read.")
    transform: TransformConfig = Field(TransformConfig(), description="From decoded frames to network input.")
    loss: LossConfig = Field(LossConfig(), description="Terms of the loss besides that of the labels.")
    train: TrainConfig = Field(TrainConfig(), description="How the network is trained.")
    data: DataConfig = Field(DataConfig(), description="What is learnt from, and how it is split.")
    localize: LocalizeSettings = Field(LocalizeSettings(), description="From scores over time to intervals.")

    @property
    def reads_features(self) -> bool:
        """True if stored features take the place of the backbone, False if the network reads video or flow."""
        return isinstance(self.model.backbone, FeaturesBackbone)

    def with_(self, **changes: Mapping[str, object] | BaseModel) -> Config:
        """A copy in which sections are replaced, or some of their fields.

        Args:
            changes: section name to the new section, or to the new values of some of its fields. Values are taken as
                they are: `config.loading.override` is what checks the values that users write.

        Example:
            >>> Config().with_(train={"epochs": 3}).train.epochs
            3
        """
        sections = {
            name: value if isinstance(value, BaseModel) else getattr(self, name).model_copy(update=dict(value))
            for name, value in changes.items()
        }
        return self.model_copy(update=sections)
