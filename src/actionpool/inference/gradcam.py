"""Grad-CAM: where a network without spatial attention of its own looks."""

from __future__ import annotations

import torch
from torch import Tensor

from actionpool.errors import UsageError
from actionpool.models.recognizer import Recognizer


def check_captum() -> None:
    """Raises ``UsageError`` where captum is not installed."""
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        raise UsageError(
            "this network has no spatial attention of its own, and Grad-CAM needs captum: "
            "pip install 'actionpool[saliency]'"
        ) from None


def grad_cam(recognizer: Recognizer, clips: Tensor, class_index: int) -> tuple[Tensor, Tensor]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the maps that the pooling reads, for the class's logit.

    Each segment is explained by itself: memory does not grow with their number.

    Args:
        recognizer: in evaluation mode.
        clips: ``(N, M, C, T, H, W)`` of one video and one crop.
        class_index: which logit.

    Returns:
        Where: ``(N, t, h, w)``, each map summing to 1 over h, w, even where nothing speaks for the class. When:
        ``(N, t)``, how much of the segment's evidence each time step holds; sums to 1.

    Raises:
        UsageError: captum is not installed.
    """
    check_captum()
    from captum.attr import LayerGradCam

    parameter = next(recognizer.backbone.parameters(), next(recognizer.parameters()))

    def logit(segment: Tensor) -> Tensor:
        valid = torch.ones(1, 1, dtype=torch.bool, device=segment.device)
        logits: Tensor = recognizer(segment[:, None], valid).segment_logits
        return logits[:, 0, class_index]

    explain = LayerGradCam(logit, recognizer.pooling)
    maps = []
    for segment in clips.to(parameter.device, parameter.dtype):
        found = explain.attribute(segment[None], attribute_to_layer_input=True, relu_attributions=True)
        found = found[0] if isinstance(found, tuple) else found  # (1, 1, t, h, w)
        maps.append(found.detach()[0, 0].float().cpu())
    return _normalised(torch.stack(maps))


def _normalised(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence ``(N, t, h, w)``, at least 0, to shares."""
    evidence = maps.sum(dim=(2, 3))  # (N, t)
    area = maps.shape[2] * maps.shape[3]
    tiny = torch.finfo(maps.dtype).tiny
    spatial = torch.where(evidence[..., None, None] > tiny, maps / evidence[..., None, None].clamp(min=tiny), 1 / area)
    whole = evidence.sum(dim=1, keepdim=True)
    temporal = torch.where(whole > tiny, evidence / whole.clamp(min=tiny), 1 / evidence.shape[1])
    return spatial, temporal
