"""Networks that turn one clip ``(C, T, H, W)`` into a feature map ``(D, t, h, w)``."""

from actionpool.models.backbones.base import Backbone, InputSpec
from actionpool.models.backbones.features import Features
from actionpool.models.backbones.gated_c3d import GatedC3D, GatedC3DSimple

__all__ = ["Backbone", "Features", "GatedC3D", "GatedC3DSimple", "InputSpec"]
