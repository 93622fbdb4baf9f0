"""Fold batch norms and activations into the convolutions before them: the same network, faster at inference."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Container, Iterator

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from actionpool.models.backbones import Unit3d
from actionpool.models.fused import ActivatedConvolution, is_fusable

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norms(module: nn.Module) -> int:
    """Multiply each batch norm that is the only reader of a convolution into the convolution's weights.

    Args:
        module: in evaluation mode; changed in place, and its ``state_dict`` with it. It cannot be trained afterwards.

    Returns:
        Number of folded norms.
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


def fuse_activations(module: nn.Module) -> int:
    """Let each convolution apply the activation that is its only reader, which saves a pass over memory on a CPU.

    Args:
        module: after ``fold_batch_norms``; changed in place, and its ``state_dict`` with it.

    Returns:
        Number of fused activations.
    """
    num_fused = 0
    for parent in list(module.modules()):
        for convolution_path, activation_path in _activated(parent):
            convolution = parent.get_submodule(convolution_path)
            activation = _only_part(parent.get_submodule(activation_path))
            if is_fusable(convolution, activation):
                _replace(parent, convolution_path, ActivatedConvolution(convolution, activation))
                _replace(parent, activation_path, nn.Identity())
                num_fused += 1
    return num_fused


def fuse_sums(module: nn.Module) -> int:
    """Let the last convolution of a residual block add the shortcut and apply the activation after the sum.

    Args:
        module: after ``fold_batch_norms``; blocks in it become ``torch.fx.GraphModule``.

    Returns:
        Number of fused sums.
    """
    num_fused = 0
    for name, block in list(module.named_modules()):
        if not name or isinstance(block, ActivatedConvolution) or not list(block.children()):
            continue
        graph, before = _trace(block), num_fused
        while graph is not None and (found := next(_activated_sums(block, graph), None)) is not None:
            convolution_node, added, activation_node = found
            path = str(convolution_node.target)
            activation = _only_part(block.get_submodule(str(activation_node.target)))
            _replace(block, path, ActivatedConvolution(_only_part(block.get_submodule(path)), activation))
            with graph.inserting_before(activation_node):
                fused = graph.call_module(path, (convolution_node.args[0], added))
            activation_node.replace_all_uses_with(fused)
            num_fused += 1
        if graph is not None and num_fused > before:
            rewritten = fx.GraphModule(block, graph)
            graph = rewritten.graph  # its copy
            graph.eliminate_dead_code()
            rewritten.recompile()
            _replace(module, name, rewritten)
    return num_fused


def _activated_sums(block: nn.Module, graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """For each sum that only an activation reads: a convolution that only the sum reads, the other term, the reader."""
    calls = _single_calls(graph)
    for node in calls:
        total = node.args[0] if node.args else None
        if not node.users or not isinstance(total, fx.Node) or len(total.users) > 1:
            continue
        if total.target not in (operator.add, operator.iadd):
            continue
        for place in (0, 1):
            source, other = _source(total, calls, place), total.args[1 - place]
            while source is not None and isinstance(_only_part(block.get_submodule(str(source.target))), nn.Identity):
                source = _source(source, calls)
            if source is None or not isinstance(other, fx.Node) or other.op not in ("placeholder", "call_module"):
                continue
            activation = _only_part(block.get_submodule(str(node.target)))
            if is_fusable(_only_part(block.get_submodule(str(source.target))), activation, with_sum=True):
                yield source, other, node
                break


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Paths below ``parent``: a convolution, and the batch norm that is the only reader of its output."""
    children = dict(parent.named_children())
    if not any(isinstance(child, _BatchNorm) for child in children.values()):
        return
    if isinstance(parent, Unit3d):
        yield "conv3d", "bn"
        return
    calls = _calls(parent)
    for node in calls:
        source = _source(node, calls)
        if source is not None and isinstance(children.get(str(node.target)), _BatchNorm):
            path = _last_part(parent, str(source.target))
            if isinstance(parent.get_submodule(path), _CONVOLUTIONS):
                yield path, str(node.target)


def _activated(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Paths below ``parent``: a convolution and its only reader, with at most ``Identity`` between the two."""
    if not list(parent.children()) or isinstance(parent, (Unit3d, ActivatedConvolution)):
        return
    calls = _calls(parent)
    for node in calls:
        if isinstance(_only_part(parent.get_submodule(str(node.target))), nn.Identity):
            continue
        source = _source(node, calls)
        while source is not None:
            path = _last_part(parent, str(source.target))
            if isinstance(parent.get_submodule(path), _CONVOLUTIONS):
                yield path, str(node.target)
                break
            if not isinstance(_only_part(parent.get_submodule(path)), nn.Identity):
                break
            source = _source(source, calls)


def _calls(parent: nn.Module) -> dict[fx.Node, None]:
    """Calls of children in the forward of ``parent``, of children called once; empty if it cannot be traced."""
    graph = _trace(parent)
    return {} if graph is None else _single_calls(graph)


def _trace(parent: nn.Module) -> fx.Graph | None:
    """The forward of ``parent`` as calls of its children; None if it cannot be traced."""
    tracer = _Shallow()
    if hasattr(parent, "forward_features"):
        tracer.traced_func_name = "forward_features"
    try:
        return tracer.trace(parent)
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError, RuntimeError):
        return None  # its forward depends on values or shapes, so it stays as it is


def _single_calls(graph: fx.Graph) -> dict[fx.Node, None]:
    num_calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    return {node: None for node in graph.nodes if node.op == "call_module" and num_calls[node.target] == 1}


def _source(node: fx.Node, calls: Container[fx.Node], place: int = 0) -> fx.Node | None:
    """The call whose output is argument ``place`` of ``node``, if nothing else reads it."""
    source = node.args[place] if len(node.args) > place else None
    return source if isinstance(source, fx.Node) and source in calls and len(source.users) == 1 else None


def _last_part(parent: nn.Module, path: str) -> str:
    """The path of the module that makes the output of the one at ``path``: itself, or the last of a sequence."""
    while type(inner := parent.get_submodule(path)).forward is nn.Sequential.forward:
        names = [name for name, part in inner.named_children() if not isinstance(_only_part(part), nn.Identity)]
        if not names:
            break
        path += f".{names[-1]}"
    return path


def _only_part(module: nn.Module) -> nn.Module:
    """The only module of a sequence that is not an identity; otherwise the module itself."""
    if type(module).forward is not nn.Sequential.forward:
        return module
    parts = [part for child in module.children() if not isinstance(part := _only_part(child), nn.Identity)]
    return parts[0] if len(parts) == 1 else module if parts else nn.Identity()


def _replace(parent: nn.Module, path: str, module: nn.Module) -> None:
    holder, _, name = path.rpartition(".")
    setattr(parent.get_submodule(holder), name, module)


class _Shallow(fx.Tracer):
    """Traces the forward of one module, with its children as single calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _without_norm(norm: nn.Module) -> nn.Module:
    """What timm's norm layers do besides the norm: dropout and activation."""
    rest = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*rest) if rest else nn.Identity()
