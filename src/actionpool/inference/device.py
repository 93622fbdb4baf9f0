"""Which device, which precision, and a recogniser made ready for inference there."""

from __future__ import annotations

import platform
from typing import Any, Literal

import torch
from torch import nn

from actionpool.config.options import Compute, Device, Precision
from actionpool.errors import UsageError
from actionpool.models.folding import fold_batch_norms, fuse_activations, fuse_sums
from actionpool.models.recognizer import Recognizer
from actionpool.system import keep_freed_memory


def resolve_device(device: Device) -> torch.device:
    """``auto`` takes the GPU where there is one; on the CPU the process keeps what memory it frees from here on.

    Raises:
        UsageError: ``cuda`` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: torch finds no CUDA device; run 'actionpool doctor' to see why, or use --device cpu"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()
    return torch.device(device)


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """``auto`` takes bfloat16 where the hardware multiplies it at more than the float32 rate."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """True where the processor has bfloat16 dot products (AVX512-BF16, AMX or Arm's BF16)."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.backends.mkldnn.is_available() and bool(
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prepare_for_inference(
    recognizer: Recognizer, device: torch.device, precision: Literal["bf16", "fp32"], *, compiled: bool = False
) -> nn.Module:
    """Make a recogniser ready to run and no more to be trained, in place: see ``prepare_network``.

    The aggregation stays in float32: it is a few thousand multiplications whose logarithms want the digits.

    Returns:
        A module with the signature of ``Recognizer.forward``, called with float clips of any dtype.
    """
    recognizer = recognizer.to(device).eval()
    for module in (recognizer.backbone, recognizer.pooling):
        prepare_network(module, device, precision)
    if compiled:
        return _Compiled(recognizer)
    return recognizer


def open_recognizer(recognizer: Recognizer, compute: Compute) -> tuple[nn.Module, torch.device, torch.dtype]:
    """A recogniser made ready as the options say (see ``prepare_for_inference``), its device and its input's dtype."""
    device = resolve_device(compute.device)
    precision = resolve_precision(compute.precision, device)
    network = prepare_for_inference(recognizer, device, precision, compiled=compute.compiled)
    first = next(recognizer.backbone.parameters(), None)
    return network, device, torch.float32 if first is None else first.dtype  # stored features have no parameters


class _Compiled(nn.Module):
    """A compiled network: its weights are constants, laid out for the processor's library once for all calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Freezing fails with sizes left open (torch 2.13 to 2.15), so another size is another compilation.
        self.compiled = torch.compile(network, dynamic=False)

    def forward(self, *inputs: Any) -> Any:
        # Given as an option of torch.compile it reaches only half of the compiler, which then freezes nothing.
        with torch._inductor.config.patch(freezing=True), torch.no_grad():
            return self.compiled(*inputs)


def prepare_network(module: nn.Module, device: torch.device, precision: Literal["bf16", "fp32"]) -> None:
    """Make a backbone or a pooling ready to run and no more to be trained, in place.

    It is in evaluation mode, on its device, in the given precision and channels last, and its batch norms (on a
    processor its activations too) are folded into its convolutions: the same function, under other names in
    ``state_dict``.
    """
    fold_batch_norms(module.eval())
    if device.type == "cpu":
        fuse_activations(module)
        fuse_sums(module)
    # Stored features have no parameters, only the statistics that standardise them, which want float32.
    narrow = precision == "bf16" and next(module.parameters(), None) is not None
    module.to(device, torch.bfloat16 if narrow else None)
    for part in module.modules():  # oneDNN and cuDNN multiply fastest what lies channels last
        if isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)
        elif isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)
