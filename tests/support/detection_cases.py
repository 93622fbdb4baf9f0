"""Random detections with everything that is awkward: ties, duplicates, empty classes, intervals without length."""

from __future__ import annotations

import random

from actionpool.evaluation.tables import DetectionTable, GroundTruth, Rows


def random_case(seed):
    """(detections, instances, spans) as the naive scorer takes them."""
    rng = random.Random(seed)
    labels = ["run", "jump", "sit", "wave"][: rng.randint(1, 4)]
    videos = [f"video{i}" for i in range(rng.randint(1, 5))]

    def interval():
        start = rng.randint(0, 12)
        length = rng.choice([0, 1, 2, 3, 5, 8])
        if rng.random() < 0.3:
            return start + rng.random(), start + length + 1 + rng.random()
        return float(start), float(start + length)

    instances = {v: [(rng.choice(labels), *interval()) for _ in range(rng.randint(0, 4))] for v in videos}
    instances[videos[0]].append((labels[0], 1.0, 4.0))
    for found in instances.values():
        if found and rng.random() < 0.3:
            found.append(rng.choice(found))  # the same instance twice
    scored = [*videos, "elsewhere"] if rng.random() < 0.3 else videos
    detections = {}
    for v in scored:
        if rng.random() < 0.15:
            continue  # a video that the predictions do not speak of
        found = []
        for _ in range(rng.randint(0, 10)):
            label = rng.choice([*labels, "no such class"] if rng.random() < 0.2 else labels)
            bounds = interval()
            if instances.get(v) and rng.random() < 0.5:
                _, start, end = rng.choice(instances[v])
                bounds = (max(0.0, start + rng.choice([0, -0.5])), end + 0.5 * rng.random())
            found.append((label, *bounds, rng.choice([0.1, 0.3, 0.5, 0.9, rng.random()])))
        detections[v] = found
    spans = [(rng.choice(videos), *interval()) for _ in range(rng.randint(0, 3))]
    return detections, instances, spans


def predictions_of(detections) -> DetectionTable:
    rows = Rows()
    for video, found in detections.items():
        rows.add_video(video)
        for one in found:
            rows.add(video, *one)
    return rows.detections()


def truth_of(instances, spans=()) -> GroundTruth:
    rows = Rows()
    rows.knows_ambiguous = True
    for video, found in instances.items():
        rows.add_video(video)
        for one in found:
            rows.add(video, *one)
    for span in spans:
        rows.add_ambiguous(*span)
    return rows.truth()
