"""Networks that turn one clip ``(C, T, H, W)`` into a feature map ``(D, t, h, w)``."""

from actionpool.models.backbones.base import Backbone, Features, InputSpec
from actionpool.models.backbones.gated_c3d import GatedC3D, GatedC3DSimple, gated_c3d_input
from actionpool.models.backbones.i3d import I3D, Unit3d, i3d_input
from actionpool.models.backbones.torchvision3d import video_backbone, video_input
from actionpool.models.backbones.tsn import TSN, tsn_input

__all__ = [
    "I3D",
    "TSN",
    "Backbone",
    "Features",
    "GatedC3D",
    "GatedC3DSimple",
    "InputSpec",
    "Unit3d",
    "gated_c3d_input",
    "i3d_input",
    "tsn_input",
    "video_backbone",
    "video_input",
]
