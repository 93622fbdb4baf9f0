"""The sections of a configuration besides ``model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from actionpool.config.model import FeaturesBackbone, ModelConfig, Strict
from actionpool.config.recipes import FeatureRecipe, FlowRecipe


class LocalizeSettings(BaseModel):
    """Every knob of `localize`. Frozen; an unknown name is an error.

    Attributes:
        class_threshold: classes with a greater video probability are looked for.
        always_best_class: look for the most probable class even where none exceeds the threshold.
        source: "product" of class score and relevance, or class score with relevance as a "gate".
        relevance_scale: "maximum" divides relevance by its largest value (relevance that sums to 1 over the segments is
            small); "as-is" does not.
        gate_threshold: with source "gate", the class score of a segment of smaller (scaled) relevance is 0.
        cells_per_segment: of the finer grid, on which the curve is interpolated linearly.
        thresholds: where the curve is cut; each gives candidates.
        threshold_scale: "range" measures thresholds from the curve's least (0) to its greatest value (1), "maximum"
            from 0 to its greatest value, "absolute" in the curve's own units.
        merge_gap_seconds: candidates of one threshold that lie closer than this are joined.
        outer_margin: length of the surroundings on either side, as a part of the candidate's length.
        video_score_weight: of the class's video probability in a detection's score.
        min_length_seconds, max_length_seconds: other candidates are dropped; None = any length.
        nms: non-maximum suppression within a class: "hard" drops what overlaps a better detection by more than
            ``nms_tiou``, "soft" multiplies its score by 1 - tIoU, "none" does neither.
        nms_tiou: see ``nms``.
        min_score: detections of this score or less are dropped.
        max_detections: of a video, the best ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_threshold: float = Field(0.1, ge=0, le=1)
    always_best_class: bool = False
    source: Literal["product", "gate"] = "product"
    relevance_scale: Literal["maximum", "as-is"] = "maximum"
    gate_threshold: float = Field(0.5, ge=0, le=1)
    cells_per_segment: int = Field(8, ge=1, le=1000)
    thresholds: tuple[float, ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1, max_length=100)
    threshold_scale: Literal["range", "maximum", "absolute"] = "range"
    merge_gap_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    outer_margin: float = Field(0.25, ge=0, le=10)
    video_score_weight: float = Field(1.0, ge=0, le=100)
    min_length_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_length_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    nms: Literal["hard", "soft", "none"] = "hard"
    nms_tiou: float = Field(0.5, ge=0, le=1)
    min_score: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_detections: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> LocalizeSettings:
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError(f"thresholds {self.thresholds} are not all in [0, 1]")
        if self.max_length_seconds is not None and self.max_length_seconds < self.min_length_seconds:
            raise ValueError(
                f"max_length_seconds {self.max_length_seconds} is below min_length_seconds {self.min_length_seconds}"
            )
        return self


class SamplingConfig(Strict):
    """Which frames a video gives: N segments of M clips of T frames."""

    frames_per_clip: int = Field(16, ge=1)
    frame_stride: int = Field(4, ge=1)
    clips_per_segment: int = Field(1, ge=1)
    train_segments: int = Field(1, ge=1)
    val_segments: int = Field(3, ge=1, description="N while training validates: cheaper than the test")
    test_segments: int = Field(10, ge=1)
    test_crops: Literal[1, 3, 5, 10] = 1
    test_sampler: Literal["uniform", "multi-view"] = "multi-view"
    edge: Literal["stretch", "loop", "hold", "error"] = Field(
        "stretch", description="what a clip longer than its video does"
    )


class FeatureRowsConfig(Strict):
    """Which rows of a feature file a video gives; without effect where videos are decoded."""

    train: Literal["window", "perturbed", "uniform", "all"] = Field(
        "window",
        description="window: all, or a random stretch where there are more; perturbed: one at random in each of equal "
        "parts; uniform: evenly spaced",
    )
    train_segments: int = Field(750, ge=1, description="N, for window the most that a video gives")
    test: Literal["all", "uniform"] = "all"
    test_segments: int = Field(750, ge=1, description="N for uniform")
    recipe: FeatureRecipe | None = Field(
        None, description="how the features were computed, as they say it; predict computes those of a new video so"
    )
    network: str | None = Field(None, description="where the weights of their network were: a file, a name, a run")


class TransformConfig(Strict):
    """From decoded frames to network input. Lengths in pixels. What is left out is what the backbone was made for."""

    resize: tuple[int, int] | None = Field(
        (0, 0), description="(height, width) while decoding; none: as it is; (0, 0): the backbone's own"
    )
    short_side: int | None = Field(None, ge=8, description="instead of resize: keeps the aspect ratio")
    crop: int = Field(0, ge=0, description="0: the backbone's own")
    scale_jitter: tuple[float, ...] = Field((), description="training crops of these fractions, corner or centre (TSN)")
    flip: bool = True
    mean: tuple[float, ...] = Field((), description="of each channel, of values in [0, 1]; empty: the backbone's own")
    std: tuple[float, ...] = Field((), description="likewise")


class TrainConfig(Strict):
    """How the weights are found."""

    epochs: int = Field(50, ge=1)
    batch_size: int | Literal["auto"] = Field("auto", description="auto: an eighth of the videos, 4 to 32")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added before a step")
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    backbone_learning_rate_factor: float = Field(1.0, gt=0, description="of the backbone, its gates excepted")
    bias_learning_rate_factor: float = Field(1.0, gt=0, description="of biases and norms (TSN: 2)")
    decay_biases: bool = Field(True, description="weight decay on biases and norms too (TSN: off)")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    step_epochs: int = Field(4, ge=1)
    step_factor: float = Field(0.95, gt=0, le=1)
    warmup_epochs: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0, description="largest global norm; 0 switches clipping off")
    freeze: str | None = Field(
        None, min_length=1, description="'all' of the backbone, a stage, or a range: stem..stage3, ..stage3, stage2.."
    )
    freeze_bn: Literal["none", "all", "all-but-first"] = Field(
        "none", description="batch norms of the backbone that keep averages, weights and biases"
    )
    allow_pickle_weights: bool = Field(False, description="read .pt and .pth files, with torch's restricted reader")
    sampler: Literal["shuffle", "class-balanced"] = Field(
        "shuffle",
        description="shuffle: every video once an epoch; class-balanced: as many draws, each class equally often, so "
        "that videos of rare classes come more than once",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    early_stopping_epochs: int = Field(0, ge=0, description="epochs without a better validation score; 0 = never")
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_devices: int = Field(1, ge=1, description="devices of one machine; above 1 trains with DDP")
    num_nodes: int = Field(1, ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between resumable checkpoints; 0 = each epoch"
    )


class LossConfig(Strict):
    """What training asks for beside the labels, over any aggregation; 0 switches a term off."""

    sparsity: float = Field(
        0.0, ge=0, description="weight of the mean relevance (few segments matter); needs a relevance by sigmoid"
    )
    co_activity: float = Field(
        0.0, ge=0, description="weight of W-TALC's loss on pairs of videos that share a class; wants larger batches"
    )
    co_activity_margin: float = Field(0.5, ge=0, le=2, description="of the cosine distances")
    auxiliary: float = Field(1.0, ge=0, description="weight of the aggregation's own losses (bas-net)")


class FlowConfig(Strict):
    """Optical flow in the place of RGB: which fields a network reads, and how they were computed."""

    path: str = Field("", description="folder that 'actionpool flow' wrote; empty: computed while videos are read")
    stack: int | None = Field(
        None,
        ge=1,
        le=64,
        description="consecutive fields that make one frame, of two channels each; none: 5 for single frames (TSN), "
        "1 for clips (I3D)",
    )
    recipe: FlowRecipe | None = Field(None, description="of the fields; none: as the folder has it")


def _flow_folder(value: object) -> object:
    """Allow ``flow: FOLDER`` beside ``flow: {path: FOLDER}``."""
    return {"path": value} if isinstance(value, str) else value


class LimitsConfig(Strict):
    """What a single video may cost before it is left out; none: no limit."""

    max_pixels: int | None = Field(8192 * 8192, ge=1, description="width times height of a stored frame")
    max_frames: int | None = Field(10_000_000, ge=1)
    max_duration_seconds: float | None = Field(7 * 24 * 3600.0, gt=0)
    max_decoded_bytes: int | None = Field(16 * 2**30, ge=1, description="of the frames that are held at once")
    max_total_bytes: int | None = Field(2**46, ge=1, description="of all frames as RGB pictures")
    max_expansion: int | None = Field(30_000, ge=1, description="of those for each stored byte, above 1 GiB")
    probe_seconds: float = Field(60.0, gt=0, description="to look at a file; the process that does is killed then")
    probe_memory_bytes: int = Field(2 << 30, ge=1 << 28, description="address space of that process (Linux)")


class DataConfig(Strict):
    """Which examples train, and which are kept for the score."""

    path: str = ""
    format: str = "auto"
    videos: str | None = Field(None, description="where the videos of a list lie, if not beside it")
    kind: Literal["auto", "trimmed", "untrimmed"] = Field(
        "auto", description="trimmed: a label holds for all of an example; untrimmed: somewhere inside; auto: inferred"
    )
    feature_timing: str | None = Field(
        None, description="FPS/STRIDE[/WINDOW] in frames of a feature pack's rows, as in 25/16; none: inferred"
    )
    flow: Annotated[FlowConfig | None, BeforeValidator(_flow_folder)] = Field(
        None, description="read optical flow instead of RGB"
    )
    split_column: str | None = None
    folds: int | None = Field(None, ge=2)
    fold: int | None = Field(None, ge=0)
    group: str | None = None
    val_fraction: float = Field(0.15, ge=0, lt=1)
    test_fraction: float = Field(0.15, ge=0, lt=1)
    split_seed: int = Field(0, ge=0)
    limits: LimitsConfig = LimitsConfig()


class Config(Strict):
    """A whole run; travels inside every checkpoint."""

    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    features: FeatureRowsConfig = FeatureRowsConfig()
    transform: TransformConfig = TransformConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    localize: LocalizeSettings = LocalizeSettings()

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
