"""Batch norms folded into the convolutions in front of them: the same network, with less to do at inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from actionpool.models.backbones.i3d import Unit3d

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norms(module: nn.Module) -> int:
    """Multiply every batch norm that follows a convolution, and nothing else, into its weights.

    Args:
        module: in evaluation mode; changed in place, and its ``state_dict`` with it. Not to be trained any further.

    Returns:
        How many norms were folded.
    """
    num_folded = 0
    for parent in list(module.modules()):
        for convolution_path, norm_path in _pairs(parent):
            convolution, norm = parent.get_submodule(convolution_path), parent.get_submodule(norm_path)
            if isinstance(convolution, _CONVOLUTIONS) and isinstance(norm, _BatchNorm):
                _replace(parent, convolution_path, fuse_conv_bn_eval(convolution, norm))
                _replace(parent, norm_path, _without_norm(norm))
                num_folded += 1
    return num_folded


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Paths below ``parent``: a convolution, and the batch norm that alone reads its output."""
    children = dict(parent.named_children())
    if not any(isinstance(child, _BatchNorm) for child in children.values()):
        return
    if isinstance(parent, Unit3d):
        yield "conv3d", "bn"
        return
    tracer = _Shallow()
    if hasattr(parent, "forward_features"):
        tracer.traced_func_name = "forward_features"
    try:
        nodes = list(tracer.trace(parent).nodes)
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError, RuntimeError):
        return  # its forward depends on values or shapes; it keeps its norms, and is right without
    num_calls = Counter(node.target for node in nodes if node.op == "call_module")
    for node in nodes:
        if node.op != "call_module" or not isinstance(children.get(str(node.target)), _BatchNorm):
            continue
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        if len(source.users) > 1 or num_calls[node.target] > 1 or num_calls[source.target] > 1:
            continue
        path = str(source.target)
        while type(inner := parent.get_submodule(path)).forward is nn.Sequential.forward and len(
            list(inner.children())
        ):
            path += f".{list(dict(inner.named_children()))[-1]}"
        if isinstance(inner, _CONVOLUTIONS):
            yield path, str(node.target)


def _replace(parent: nn.Module, path: str, module: nn.Module) -> None:
    holder, _, name = path.rpartition(".")
    setattr(parent.get_submodule(holder), name, module)


class _Shallow(fx.Tracer):
    """Traces the forward of one module and takes its children as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _without_norm(norm: nn.Module) -> nn.Module:
    """What timm's norms do besides: dropout and activation."""
    rest = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*rest) if rest else nn.Identity()
