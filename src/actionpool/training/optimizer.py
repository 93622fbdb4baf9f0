"""What learns, at which rate, and how the rate changes over the epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from actionpool.config.sections import TrainConfig
from actionpool.models.recognizer import Recognizer


def make_optimizer(settings: TrainConfig, recognizer: Recognizer) -> torch.optim.Optimizer:
    """The configured optimiser over all parameters that learn, in groups of one rate and one decay."""
    parameters = parameter_groups(settings, recognizer)
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)


def parameter_groups(settings: TrainConfig, recognizer: Recognizer) -> list[dict[str, Any]]:
    """What learns, by learning rate and weight decay: one group where nothing sets parts apart.

    The backbone without its gates has its own factor; so have biases and norms, that is what has one dimension.
    """
    pretrained = {id(parameter) for name, parameter in recognizer.backbone.named_parameters() if name[:6] != "gates."}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in recognizer.parameters():
        if not parameter.requires_grad:
            continue
        rate, decay = settings.learning_rate, settings.weight_decay
        if id(parameter) in pretrained:
            rate *= settings.backbone_learning_rate_factor
        if parameter.dim() <= 1:
            rate *= settings.bias_learning_rate_factor
            decay = decay if settings.decay_biases else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def learning_rate_factor(settings: TrainConfig, epoch: float) -> float:
    """What the learning rate is multiplied by after so many epochs (a fraction inside one)."""
    if epoch < settings.warmup_epochs:
        return (epoch + 1e-3) / settings.warmup_epochs
    match settings.schedule:
        case "step":
            return float(settings.step_factor ** (int(epoch + 1e-9) // settings.step_epochs))
        case "cosine":
            done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        case "constant":
            return 1.0
