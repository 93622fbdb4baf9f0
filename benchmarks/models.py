"""What the presets cost: clips a second, fraction of the convolution peak, memory, and the price of their heads.

    python benchmarks/models.py [--device cpu|cuda] [--repeats 5] [--presets gated-c3d dfp-vsam datp i3d]

For each preset, on one batch of random pictures, interleaved in one process:

* inference, on as many segments as a video is tested on: eager float32, eager in the default precision (bf16 and
  channels last where the processor has them), and compiled;
* the same network with average pooling and mean aggregation, eager and compiled: what DFP, VSAM and DATP add, as the
  median over all turns of the ratio within a turn, with the interval that holds 95% of its bootstrap; and, since that
  is less than whole networks vary by, both heads by themselves on the same maps, eager;
* a training step (forward, backward, AdamW) with the head and with the plain head, bf16 autocast, on videos of as many
  segments as the preset trains on, at least twelve clips together.

The peak is the best rate of one 3 x 3 x 3 convolution with 256 channels in and out, bf16 channels last, measured in the
same run, before and after. Operations are counted on the plain network in float32 (a multiplication and an addition are
two). ``i3d`` is the backbone alone at 32 x 224 x 224.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from actionpool.config.loading import preset
from actionpool.config.model import AveragePoolingConfig, MeanConfig, ModelConfig
from actionpool.inference.device import prepare_for_inference, resolve_device, resolve_precision
from actionpool.models.aggregation import MeanAggregation
from actionpool.models.backbones import I3D
from actionpool.models.build import backbone_input, build_recognizer, resolve_transform
from actionpool.models.losses import video_nll
from actionpool.models.pooling import AveragePooling
from actionpool.models.recognizer import Recognizer
from actionpool.system import num_cores

CLASSES = 101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=["gated-c3d", "dfp-vsam", "datp", "i3d"])
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    precision = resolve_precision("auto", device)
    print(f"{num_cores()} cores, torch {torch.__version__}, {device}, {precision}, load {os.getloadavg()[0]:.2f}")
    if device.type == "cuda":
        print(torch.cuda.get_device_name())
    peak = convolution_peak(device)
    print(f"convolution peak, bf16: {peak / 1e9:.0f} GFLOP/s")
    for name in arguments.presets:
        if name == "i3d":
            recognizer, plain, num_trained = i3d(), None, 1
            clips = torch.randn(1, 1, 1, 3, 32, 224, 224)
        else:
            recognizer, plain, clips, num_trained = networks(name)
        measure(name, recognizer, plain, clips, num_trained, device, precision, arguments.repeats, peak)
    print(f"\nconvolution peak again: {convolution_peak(device) / 1e9:.0f} GFLOP/s, load {os.getloadavg()[0]:.2f}")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def networks(name: str) -> tuple[Recognizer, Recognizer | None, torch.Tensor, int]:
    """A preset's recogniser, the same backbone with a plain head, clips of one video, and the segments trained on."""
    config = preset(name)
    spec = backbone_input(config.model.backbone)
    transform = resolve_transform(config.transform, spec)
    sampling = config.sampling
    torch.manual_seed(0)
    recognizer = build_recognizer(config.model, CLASSES)
    views = (sampling.test_segments, sampling.clips_per_segment)
    shape = (1, *views, 3, sampling.frames_per_clip, transform.crop, transform.crop)
    plain_model = ModelConfig.model_validate(
        {**config.model.model_dump(), "pooling": AveragePoolingConfig(), "aggregation": MeanConfig()}
    )
    is_plain = plain_model.pooling == config.model.pooling and plain_model.aggregation == config.model.aggregation
    plain = None if is_plain else build_recognizer(plain_model, CLASSES)
    return recognizer, plain, torch.randn(shape), sampling.train_segments


def i3d() -> Recognizer:
    backbone = I3D()
    return Recognizer(backbone, AveragePooling(backbone.out_channels), MeanAggregation(backbone.out_channels, CLASSES))


def measure(
    name: str,
    recognizer: Recognizer,
    plain: Recognizer | None,
    clips: torch.Tensor,
    num_trained: int,
    device: torch.device,
    precision: str,
    repeats: int,
    peak: float,
) -> None:
    valid = torch.ones(clips.shape[:2], dtype=torch.bool)
    num_clips = clips.shape[1] * clips.shape[2]
    num_videos = math.ceil(12 / (num_trained * clips.shape[2]))
    counted = copy.deepcopy(recognizer).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted.backbone(clips.flatten(0, 2).to("meta"), None)
    operations = counter.get_total_flops()
    print(f"\n{name}: {tuple(clips.shape)}, {operations / num_clips / 1e9:.1f} GFLOP a clip")
    last = torch.channels_last_3d
    ready = clips.flatten(0, 2).contiguous(memory_format=last).unflatten(0, clips.shape[:3]).to(device)
    on = valid.to(device)

    def inference(model: Recognizer, how: str, *, compiled: bool = False) -> Callable[[], object]:
        network = prepare_for_inference(copy.deepcopy(model), device, how, compiled=compiled)  # type: ignore[arg-type]
        pixels = ready.to(torch.bfloat16 if how == "bf16" else torch.float32)

        def run() -> object:
            with torch.inference_mode():
                return network(pixels, on)

        return run

    def training(model: Recognizer) -> Callable[[], object]:
        network = copy.deepcopy(model).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
        labels = nn.functional.one_hot(torch.zeros(num_videos, dtype=torch.long), CLASSES).float().to(device)
        pixels = ready[:, :num_trained].expand(num_videos, *ready[0, :num_trained].shape)
        all_valid = on[:, :num_trained].expand(num_videos, num_trained)

        def run() -> object:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = video_nll(network(pixels, all_valid).log_probs, labels)
            loss.backward()
            optimizer.step()
            return loss

        return run

    contestants = {
        "eager float32": inference(recognizer, "fp32"),
        f"eager {precision}": inference(recognizer, precision),
    }
    plain_of = {}
    if plain is not None:
        contestants[f"plain head, {precision}"] = inference(plain, precision)
        plain_of[f"eager {precision}"] = f"plain head, {precision}"
    contestants[f"compiled {precision}"] = inference(recognizer, precision, compiled=True)
    if plain is not None:
        contestants[f"compiled plain head, {precision}"] = inference(plain, precision, compiled=True)
        plain_of[f"compiled {precision}"] = f"compiled plain head, {precision}"
    medians = report(contestants, plain_of, num_clips, operations, peak, device, repeats)
    if plain is not None:
        heads = {
            "head": head_alone(copy.deepcopy(recognizer), ready, on, device, precision),
            "plain head": head_alone(copy.deepcopy(plain), ready, on, device, precision),
        }
        turns, _ = take_turns(heads, device, 20 * repeats)
        seconds, bare = (statistics.median(turns[head]) for head in heads)
        whole = medians[f"plain head, {precision}"]
        print(
            f"    by themselves: the head {seconds * 1e3:.2f} ms, the plain head {bare * 1e3:.2f} ms; "
            f"the difference is {(seconds - bare) / whole:+.2%} of the whole"
        )
    if name != "i3d":
        contestants = {"training step": training(recognizer)}
        if plain is not None:
            contestants["training step, plain head"] = training(plain)
            plain_of = {"training step": "training step, plain head"}
        share = num_videos * num_trained / clips.shape[1]
        report(contestants, plain_of, round(num_clips * share), round(3 * operations * share), peak, device, repeats)


def report(
    contestants: dict[str, Callable[[], object]],
    plain_of: dict[str, str],
    num_clips: int,
    operations: int,
    peak: float,
    device: torch.device,
    repeats: int,
) -> dict[str, float]:
    """Print what each took and what heads cost; give the median seconds of each."""
    turns, memory = take_turns(contestants, device, repeats)
    first = statistics.median(next(iter(turns.values())))
    for name, values in turns.items():
        seconds = statistics.median(values)
        print(
            f"  {name:<28} {seconds * 1e3:9.1f} ms {num_clips / seconds:8.2f} clips/s  "
            f"{operations / seconds / peak:5.2f} of peak  {first / seconds:5.2f} x the first"
            + (f"  {memory[name] / 2**20:6.0f} MiB" if memory[name] else "")
        )
    for name, plain in plain_of.items():
        ratios = [whole / bare for whole, bare in zip(turns[name], turns[plain], strict=True)]
        draws = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(2000))
        low, high = draws[50], draws[-51]
        print(
            f"    {name}: the head costs {statistics.median(ratios) - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%}, "
            f"{len(ratios)} turns)"
        )
    return {name: statistics.median(values) for name, values in turns.items()}


class _Given(nn.Module):
    """Stands for a backbone whose maps are there already."""

    def __init__(self, maps: object) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, clips: torch.Tensor, tap: str | None) -> object:
        return self.maps


def head_alone(
    recognizer: Recognizer, clips: torch.Tensor, valid: torch.Tensor, device: torch.device, how: str
) -> Callable[[], object]:
    """Pooling and aggregation on the maps of these clips."""
    prepare_for_inference(recognizer, device, how)  # type: ignore[arg-type]
    pixels = clips.to(torch.bfloat16 if how == "bf16" else torch.float32)
    with torch.inference_mode():
        recognizer.backbone = _Given(recognizer.backbone(pixels.flatten(0, 2), recognizer.aggregation.features_from))

    def run() -> object:
        with torch.inference_mode():
            return recognizer(pixels, valid)

    return run


def take_turns(
    contestants: dict[str, Callable[[], object]], device: torch.device, repeats: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each in every turn, in an order drawn anew each time, and the most GPU memory of each."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    memory = dict.fromkeys(contestants, 0)
    for repeat in range(repeats + 2):
        for name in random.sample(list(contestants), len(contestants)):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            start = time.perf_counter()
            contestants[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
                memory[name] = max(memory[name], torch.cuda.max_memory_allocated())
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds, memory


def convolution_peak(device: torch.device) -> float:
    """Operations a second of the best of thirty convolutions."""
    layer = nn.Conv3d(256, 256, 3, padding=1, bias=False).to(device, torch.bfloat16)
    layer = layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    batch = 2 if device.type == "cpu" else 32
    x = torch.randn(batch, 256, 8, 28, 28, device=device, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(30):
            start = time.perf_counter()
            layer(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return 2 * x.numel() * 256 * 27 / best


if __name__ == "__main__":
    main()
