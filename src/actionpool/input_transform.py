"""What a backbone was made for, as a transform: the size, the crop and the normalisation that nobody set."""

from __future__ import annotations

from actionpool.config import TransformConfig
from actionpool.models.backbones import InputSpec


def resolve_transform(transform: TransformConfig, spec: InputSpec) -> TransformConfig:
    """Fill in what was left to the backbone; a transform that says everything comes back as it is.

    A crop of another size than the backbone's takes the size of the whole frame with it.

    Args:
        transform: as it was configured.
        spec: of the backbone.
    """
    crop = transform.crop or spec.size
    resize, short_side = transform.resize, transform.short_side
    if short_side is not None:
        resize = None
    elif resize == (0, 0):
        scale = crop / spec.size
        if spec.resize is not None:
            resize = round(spec.resize[0] * scale), round(spec.resize[1] * scale)
        else:
            resize, short_side = None, round((spec.short_side or spec.size * 8 / 7) * scale)
    return transform.model_copy(
        update={
            "resize": resize,
            "short_side": short_side,
            "crop": crop,
            "mean": transform.mean or spec.mean,
            "std": transform.std or spec.std,
        }
    )
