"""Hold parts of a backbone fixed in training: whole stages, and batch norms."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from actionpool.errors import ConfigError
from actionpool.models.backbones import Backbone

FreezeNorms = Literal["none", "all", "all-but-first"]


def freeze(backbone: Backbone, *, stages: str | None = None, norms: FreezeNorms = "none") -> None:
    """Hold parts of a backbone fixed: their parameters get no gradient, and they stay in evaluation mode in training.

    If the first stages are fixed, no graph is built through them. Gates always learn: they start as the identity, so
    there is nothing to preserve.

    Args:
        backbone: changed in place; a second call replaces the first.
        stages: ``"all"``, a stage, or a range (``"stem..stage3"``, ``"..stage3"``, ``"stage2.."``); None fixes none.
        norms: batch norms to fix as well: ``"all"``, or ``"all-but-first"`` (TSN's partial batch norm). Their running
            averages, weights and biases are fixed.

    Raises:
        ConfigError: a name is not a stage, or the range runs backwards.
    """
    backbone.requires_grad_(True)
    held: list[nn.Module] = []
    for name in frozen_stages(backbone, stages):
        held += backbone.stage_modules(name)
    batch_norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    if norms != "none":
        held += batch_norms[1 if norms == "all-but-first" else 0 :]
    for module in held:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    backbone.hold_in_eval(held)


def frozen_stages(backbone: Backbone, stages: str | None) -> tuple[str, ...]:
    """Names of the stages that a setting of ``freeze`` covers.

    Raises:
        ConfigError: as for ``freeze``.
    """
    names = backbone.stage_names
    if stages is None:
        return ()
    if stages == "all":
        return names
    first, dots, last = stages.partition("..")
    first_index = names.index(backbone.check_stage(first)) if first else 0
    last_index = names.index(backbone.check_stage(last)) if last else len(names) - 1
    if not dots:
        return (first,)
    if first_index > last_index:
        raise ConfigError(f"train.freeze got '{stages}', which runs backwards; the stages are {', '.join(names)}")
    return names[first_index : last_index + 1]
