"""Read a source, probe its videos, plan its split: what ``check`` reports and ``train`` starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actionpool.config.loading import override
from actionpool.config.sections import Config, DataConfig, LimitsConfig
from actionpool.data.catalog import Catalog
from actionpool.data.check import CheckReport, check_source, duplicate_groups
from actionpool.data.decode_limits import probe_options
from actionpool.data.feature_check import FeatureProbes
from actionpool.data.sources import Source, read_source
from actionpool.data.splits import SplitPlan, plan_splits, read_splits
from actionpool.errors import DataError
from actionpool.video.probe import ProbeResult


@dataclass(frozen=True, slots=True)
class Survey:
    """A source with everything that is known about it.

    Attributes:
        source: labels and paths.
        probes: of each path.
        plan: the split; None where the examples cannot be divided (``report.warnings`` says why).
        report: for the user.
    """

    source: Source
    probes: Mapping[Path, ProbeResult]
    plan: SplitPlan | None
    report: CheckReport


def survey(
    config: DataConfig, *, splits_file: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Look at data as the ``data`` section of a configuration describes it.

    Args:
        config: where and how.
        splits_file: a split written earlier, to be kept; None = plan one.
        progress: receives (done, total) files.

    Raises:
        AnnotationError: labels that cannot be understood, or a split file of other data.
        UsageError: an unknown format, column or fold.
    """
    source = read_source(
        config.path,
        format=config.format,
        videos=None if config.videos is None else Path(config.videos),
        kind=None if config.kind == "auto" else config.kind,
        feature_timing=config.feature_timing,
    )
    with Catalog.beside(source.root) if source.features is None else FeatureProbes(source) as prober:
        paths = dict.fromkeys(example.path for example in source.examples)
        if isinstance(prober, Catalog):
            probes = prober.probe(paths, on_progress=progress, **probe_options(config.limits))
        else:
            probes = prober.probe(paths, on_progress=progress)
        plan: SplitPlan | None
        if splits_file is not None:
            plan = read_splits(splits_file, source)
        else:
            plan = _plan(source, config, probes)
        report = check_source(source, prober, plan=plan, probes=probes)
    return Survey(source, probes, plan, report)


def check(
    data: str | Path,
    *,
    format: str = "auto",
    videos: str | Path | None = None,
    kind: Literal["auto", "trimmed", "untrimmed"] = "auto",
    feature_timing: str | None = None,
    split_column: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    settings: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Tell what data is: format, videos, classes, splits, what is broken and why.

    No video is changed; what the probe found is kept in ``.actionpool`` beside the data (or in the user cache).

    Args:
        data: a folder, table or list.
        format: of the data; ``"auto"`` detects it.
        videos: where the videos of a list lie, if not beside it.
        kind: whether a label holds for all of an example or for something inside; ``"auto"`` infers it.
        feature_timing: ``FPS/STRIDE[/WINDOW]`` of a feature pack's rows; None infers it.
        split_column, folds, fold, group: as for ``train``.
        settings: ``dotted.key=value``, as for ``train``: ``data.limits.max_pixels=null``.
        progress: receives (done, total) files.

    Raises:
        AnnotationError: labels that cannot be understood.
        UsageError: an unknown format, column or fold.

    Example:
        >>> actionpool.check("clips").num_usable  # doctest: +SKIP
        36
    """
    config = DataConfig(
        path=str(data),
        format=format,
        videos=None if videos is None else str(videos),
        kind=kind,
        feature_timing=feature_timing,
        split_column=split_column,
        folds=folds,
        fold=fold,
        group=group,
    )
    config = override(Config(data=config), settings).data
    return survey(config, progress=progress).report


def _plan(source: Source, config: DataConfig, probes: Mapping[Path, ProbeResult]) -> SplitPlan | None:
    try:
        return plan_splits(
            source,
            split_column=config.split_column,
            folds=config.folds,
            fold=config.fold,
            group=config.group,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            seed=config.split_seed,
            near_duplicate_groups=duplicate_groups(source, probes),
            unusable=[path for path, result in probes.items() if result.reason is not None],
        )
    except DataError:
        asked = config.model_copy(
            update={"kind": "auto", "flow": None, "feature_timing": None, "limits": LimitsConfig()}
        )
        if asked != DataConfig(path=config.path, format=config.format, videos=config.videos):
            raise  # a split that was asked for
        return None  # the report makes the attempt again and tells why it fails
