"""What the attentions learn where the truth is known: tables over 15 seeds and per class, held-out data, equal budget.

    python benchmarks/learning.py [--seeds 0,1,...,14] [--part carriers|one|maps|clips]

Every row has the same data, optimiser, rate and epochs. A seed is of the data, of the directions in which the data are
laid out, and of the weights. Budgets were chosen on seeds 100 and 101. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from actionpool.config.loading import override, parse_config
from actionpool.models.build import build_recognizer
from actionpool.models.losses import video_nll
from actionpool.models.recognizer import Recognizer
from actionpool.training.module import openness
from actionpool.values import RecognizerOutput

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.carriers import SyntheticClips, SyntheticFeatures, carrier_clips, carrier_features, patterned_maps

AGGREGATIONS = (
    "mean",
    "max",
    "{name: topk, k: 2}",
    "attention",
    "{name: attention, normaliser: sigmoid}",
    "vsam",
    "{name: vsam, normaliser: sigmoid}",
    "{name: vsam, variant: two-way}",
    "{name: datp, weight_model: direct, hidden: 32}",
    "{name: datp, weight_model: mixture, hidden: 64}",
)
LONE = (
    "mean",
    "vsam",
    "{name: datp, weight_model: direct, hidden: 64}",
    "{name: datp, weight_model: gaussian, hidden: 64}",
    "{name: datp, weight_model: beta, hidden: 64}",
)
HEADER = (
    "| aggregation | top-1: mean, lowest seed | AUC of the weights: mean, lowest seed | lowest class | s |\n"
    "| --- | --- | --- | --- | --- |"
)
WARMUP = 0.25  # as train.attention_warmup
PARTS = {"quadrant": "spatial", "step": "temporal", "channels": "channel"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default=",".join(map(str, range(15))))
    parser.add_argument("--part", choices=("carriers", "one", "maps", "clips"))
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread, seeds {seeds}\n", flush=True)
    if arguments.part in (None, "carriers"):
        print("2 of 10 segments carry the class, at random places; 600 videos train for 15 epochs, 400 test.\n")
        print(HEADER)
        for name in AGGREGATIONS:
            carriers(name, seeds, num_carriers=2, epochs=15)
    if arguments.part in (None, "one"):
        print("\n1 of 10 segments carries the class; 600 videos train for 30 epochs, 400 test.\n")
        print(HEADER)
        for name in LONE:
            carriers(name, seeds, num_carriers=1, epochs=30)
    if arguments.part in (None, "maps"):
        print("\nOne quadrant, one time step or one group of channels carries the class; 200 videos test.\n")
        print("| what carries it | pooling | top-1 | pointing | seconds |\n| --- | --- | --- | --- | --- |")
        for where in PARTS:
            maps(where, seeds)
    if arguments.part in (None, "clips"):
        print("\nRendered: 2 of 10 segments show the class; 400 videos train for 20 epochs, 400 test.\n")
        print(HEADER)
        rendered(seeds)


def carriers(name: str, seeds: list[int], *, num_carriers: int, epochs: int) -> None:
    began, right, auc = time.monotonic(), [], []
    for seed in seeds:
        train = carrier_features(600, num_carriers=num_carriers, seed=2 * seed, layout_seed=seed)
        test = carrier_features(400, num_carriers=num_carriers, seed=2 * seed + 1, layout_seed=seed)
        output = train_and_test([f"model.aggregation={name}"], train, test, epochs=epochs, seed=seed)
        right.append(accuracy(output, test))
        auc.append(class_aucs(output.weights.numpy(), test))
    print_row(name, right, auc, began)


def print_row(name: str, right: list[float], auc: list[list[float]], began: float) -> None:
    """One aggregation over all seeds: an average hides the seed that failed, and the class."""
    means = [float(np.mean(classes)) for classes in auc]
    print(
        f"| {name} | {np.mean(right):.3f}, {min(right):.3f} | {np.mean(means):.3f}, {min(means):.3f} | "
        f"{np.min(auc):.3f} | {time.monotonic() - began:.0f} |",
        flush=True,
    )


def rendered(seeds: list[int]) -> None:
    """Pixels to features by a network that learned motions of single clips, and was kept; then as ``carriers``."""
    began = time.monotonic()
    network = motion_network()
    data = [
        tuple(as_features(network, carrier_clips(400, seed=1000 + 2 * seed + part)) for part in (0, 1))
        for seed in seeds
    ]
    seconds = time.monotonic() - began
    for name in AGGREGATIONS:
        began, right, auc = time.monotonic(), [], []
        for seed, (train, test) in zip(seeds, data, strict=True):
            output = train_and_test([f"model.aggregation={name}"], train, test, epochs=20, seed=seed)
            right.append(accuracy(output, test))
            auc.append(class_aucs(output.weights.numpy(), test))
        print_row(name, right, auc, began)
    print(f"\nNetwork and features: {seconds:.0f} s.")


def motion_network() -> Recognizer:
    """An eighth of the gated C3D, trained on single clips to tell four motions of a blob and of a ring."""
    torch.manual_seed(0)
    base = {"model": {"backbone": {"name": "gated-c3d", "width": 0.125}, "pooling": "average", "aggregation": "mean"}}
    net = build_recognizer(parse_config(base).model, 8)
    made = carrier_clips(240, num_carriers=5, seed=999)
    pixels = as_pixels(made).flatten(0, 1)[:, None]  # (V N, 1, ...)
    shown = torch.from_numpy(made.shown + 4 * ~made.truth).flatten()
    labels = torch.nn.functional.one_hot(shown, 8).float()
    epochs = 12
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(pixels) / 32))
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            loss = video_nll(net(pixels[rows], torch.ones(len(rows), 1, dtype=torch.bool)).log_probs, labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def as_pixels(made: SyntheticClips) -> torch.Tensor:
    """``(V, N, 1, 3, T, H, W)`` around zero."""
    return (torch.from_numpy(made.clips).movedim(-1, 2).float() / 255 - 0.5)[:, :, None] / 0.25


def as_features(network: Recognizer, made: SyntheticClips) -> SyntheticFeatures:
    """As long as those of ``carrier_features``: so long a softmax is not saturated from the start."""
    valid = torch.ones(made.truth.shape, dtype=torch.bool)
    with torch.no_grad():
        features = torch.cat(
            [
                network(pixels, row).features
                for pixels, row in zip(as_pixels(made).split(50), valid.split(50), strict=True)
            ]
        )
    scaled = features * (1.5 / features.norm(dim=2).mean())
    return SyntheticFeatures(scaled.numpy(), made.labels, made.truth)


def maps(where: str, seeds: list[int]) -> None:
    switches = ", ".join(f"{part}: {str(part == PARTS[where]).lower()}" for part in PARTS.values())
    budget = {"num": 300, "epochs": 15, "size": (4, 6, 6)}
    if where == "channels":
        budget = {"num": 1000, "epochs": 30, "size": (1, 2, 2)}
    for pooling in ("average", f"{{name: dfp, {switches}, reduction: 1}}"):
        began, right, pointing = time.monotonic(), [], []
        for seed in seeds:
            train, test = (
                patterned_maps(number, where, size=budget["size"], seed=2 * seed + offset, layout_seed=seed)
                for offset, number in ((0, budget["num"]), (1, 200))
            )
            output = train_and_test([f"model.pooling={pooling}"], train, test, epochs=budget["epochs"], seed=seed)
            right.append(accuracy(output, test))
            if pooling != "average":
                pointing.append(pointed(output, test, where))
        found = spread(pointing) if pointing else ""
        shown = pooling if pooling == "average" else f"dfp, {PARTS[where]} only"
        print(f"| {where} | {shown} | {spread(right)} | {found} | {time.monotonic() - began:.0f} |", flush=True)


def train_and_test(
    settings: list[str], train: SyntheticFeatures, test: SyntheticFeatures, *, epochs: int, seed: int
) -> RecognizerOutput:
    base = {"model": {"backbone": {"name": "features", "channels": train.features.shape[2]}, "pooling": "average"}}
    torch.manual_seed(seed)
    net = build_recognizer(override(parse_config(base), ["model.aggregation=mean", *settings]).model, 4)
    labels = torch.nn.functional.one_hot(torch.from_numpy(train.labels), 4).float()
    clips, valid = as_clips(train)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    num_steps, step = epochs * math.ceil(len(clips) / 16), 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(clips)).split(16):
            net.aggregation.openness = openness(step / num_steps, WARMUP)
            optimizer.zero_grad()
            video_nll(net(clips[rows], valid[rows]).log_probs, labels[rows]).backward()
            optimizer.step()
            schedule.step()
            step += 1
    net.aggregation.openness = 1.0
    with torch.no_grad():
        return net.eval()(*as_clips(test))


def as_clips(made: SyntheticFeatures) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.from_numpy(made.features)
    rows = features if features.ndim == 6 else features[..., None, None, None]
    return rows.unsqueeze(2), torch.ones(rows.shape[:2], dtype=torch.bool)


def accuracy(output: RecognizerOutput, made: SyntheticFeatures) -> float:
    return float((output.log_probs.argmax(dim=1).numpy() == made.labels).mean())


def class_aucs(weights: np.ndarray, made: SyntheticFeatures) -> list[float]:
    """For each class, how often a carrier weighs more than a distractor of its video, ties counting half."""
    found: dict[int, list[float]] = {}
    for row, real, label in zip(weights, made.truth, made.labels.tolist(), strict=True):
        gaps = row[real][:, None] - row[~real]
        found.setdefault(label, []).append(((gaps > 0) + (gaps == 0) / 2).mean())
    return [float(np.mean(found[label])) for label in sorted(found)]


def pointed(output: RecognizerOutput, made: SyntheticFeatures, where: str) -> float:
    """How often the highest attention lies where the class is."""
    if where == "quadrant":
        best = output.spatial[:, 0].flatten(2).argmax(dim=2, keepdim=True)
        return float(torch.from_numpy(made.truth).flatten(2).gather(2, best).float().mean())
    if where == "step":
        return float((output.temporal[:, 0].argmax(dim=1).numpy() == made.truth[:, :, 0, 0].argmax(axis=1)).mean())
    gates = output.channel[:, 0, :28].unflatten(1, (4, 7)).mean(dim=2).argmax(dim=1).numpy()  # of the four groups
    return float((gates == made.truth[:, [0, 7, 14, 21]].argmax(axis=1)).mean())


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


if __name__ == "__main__":
    main()
