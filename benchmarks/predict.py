"""Does ``predict`` overlap decoding with the network, and does its memory stay flat?

    python benchmarks/predict.py [--videos 24] [--repeats 3] [--preset gated-c3d]

Generates 320 x 240 H.264 clips of 10 s, then times, interleaved in one process: decoding alone (the loader that
``predict`` uses, nothing computed), the network alone (on batches decoded before), and both together. Prints medians
and ``together / max(alone)``: 1.0 is perfect overlap. The bound on a machine whose cores both sides fill is the sum of
their processor time over the cores, which is printed as well. Then the peak memory for a quarter and for all of the
videos.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import torch

from actionpool.commands.predict import predict
from actionpool.config.loading import preset
from actionpool.data.datasets.batches import RestartingLoader, default_num_workers
from actionpool.data.datasets.video import VideoDataset
from actionpool.data.sources import Example
from actionpool.data.synthetic import MOTIONS, write_motion_clips
from actionpool.data.transforms import normalised
from actionpool.inference.checkpoint import load, save_checkpoint
from actionpool.inference.device import prepare_for_inference, resolve_device, resolve_precision
from actionpool.models.build import backbone_input, build_recognizer, resolve_transform
from actionpool.system import num_cores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preset", default="gated-c3d")
    arguments = parser.parse_args()
    print(f"{num_cores()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        clips, run = Path(folder) / "clips", Path(folder) / "run"
        write_motion_clips(clips, clips_per_class=arguments.videos // 4, num_frames=250, size=(240, 320))
        config = preset(arguments.preset)
        spec = backbone_input(config.model.backbone)
        config = config.with_(transform=resolve_transform(config.transform, spec))
        save_checkpoint(run / "last", build_recognizer(config.model, 4), config, tuple(MOTIONS), {})
        compare(run, sorted(clips.rglob("*.mp4")), arguments.repeats)


def compare(run: Path, videos: list[Path], repeats: int) -> None:
    model = load(run)
    device = resolve_device("cpu")
    network = prepare_for_inference(model.recognizer, device, resolve_precision("auto", device))
    dtype = next(model.recognizer.backbone.parameters()).dtype
    examples = [Example(str(path), path, (), None, {}) for path in videos]
    dataset = VideoDataset(
        examples, model.classes, sampling=model.config.sampling, transform=model.config.transform, training=False
    )

    def loader():
        return RestartingLoader(dataset, batch_size=4, num_workers=default_num_workers())

    batches = list(loader())
    times: dict[str, list[float]] = {"decode": [], "network": [], "together": []}
    cpu: dict[str, list[float]] = {"decode": [], "network": []}
    for _ in range(repeats):
        for name in times:
            before, cpu_before = time.perf_counter(), cpu_seconds()
            workers: list[int] = []
            if name == "decode":
                reading = loader()
                for _batch in reading:
                    pass
                workers = [worker.pid for worker in reading._iterator._workers]
            elif name == "network":
                with torch.inference_mode():
                    for batch in batches:
                        network(normalised(batch.clips, model.config.transform, dtype), batch.valid)
            else:
                predict(model, videos)
            times[name].append(time.perf_counter() - before)
            if name in cpu:
                cpu[name].append(cpu_seconds() - cpu_before + sum(map(worker_cpu_seconds, workers)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<10} {value:6.2f} s   {len(videos) / value:6.2f} videos/s   {[round(t, 2) for t in times[name]]}")
    alone = max(medians["decode"], medians["network"])
    bound = sum(statistics.median(values) for values in cpu.values()) / num_cores()
    print(f"together / slower of the two alone: {medians['together'] / alone:.2f}")
    shares = ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in cpu.items())
    print(f"processor time: {shares}; both / cores: {bound:.2f} s, which is {bound / alone:.2f} of the slower alone")
    print(f"together / that bound:              {medians['together'] / bound:.2f}")
    for count in (len(videos) // 4, len(videos)):
        predict(load(run), videos[:count])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"peak memory after {count:>3} videos: {peak:.0f} MiB, largest worker {workers:.0f} MiB")


def cpu_seconds() -> float:
    """Processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def worker_cpu_seconds(pid: int) -> float:
    """Processor time of one of the loader's processes, which are children of the fork server and not of this one."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
