"""Detection scores in the plainest loops: what the fast code is held against. Shares nothing with it."""

from __future__ import annotations


def tiou(a, b):
    inside = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inside
    return inside / union if union > 0 else 0.0


def steps(interval, per_second):
    return interval if per_second is None else tuple(float(round(bound * per_second)) for bound in interval)


def class_average_precision(detections, instances, threshold, *, spans, protocol):
    """One class.

    Args:
        detections: (video, (start, end), score) in file order.
        instances: (video, (start, end)).
        spans: (video, (start, end)) ambiguous.
    """
    grid = protocol.grid_per_second
    taken = set()
    right = 0
    shown = 0
    at_hit = []  # precision after each detection, and whether it is right
    for video, interval, _ in sorted(detections, key=lambda one: -one[2]):  # sorted() keeps the order of equals
        interval = steps(interval, grid)
        touches = any(v == video and tiou(interval, steps(span, grid)) > 0 for v, span in spans)
        if protocol.ambiguous == "dropped" and touches:
            continue
        best, choice = -1.0, None
        for index, (other_video, other) in enumerate(instances):
            if other_video != video or index in taken:
                continue
            overlap = tiou(interval, steps(other, grid))
            if overlap < threshold:
                continue
            if protocol.matching == "first":
                choice = index
                break
            if overlap > best:
                best, choice = overlap, index
        if choice is None and protocol.ambiguous == "ignored" and touches:
            continue
        shown += 1
        if choice is not None:
            taken.add(choice)
            right += 1
        at_hit.append((right / shown, choice is not None))
    total = 0.0
    for position, (precision, hit) in enumerate(at_hit):
        if hit:
            if protocol.precision == "interpolated":
                precision = max(later for later, _ in at_hit[position:])
            total += precision / len(instances)
    return total


def mean_average_precision(detections, instances, protocol, spans=()):
    """Mean over classes at each threshold.

    Args:
        detections: video to [(label, start, end, score)].
        instances: video to [(label, start, end)], every video of the set.
        spans: [(video, start, end)].
    """
    classes = sorted({label for found in instances.values() for label, *_ in found})
    means = []
    for threshold in protocol.tious:
        values = []
        for name in classes:
            of_class = [
                (v, (s, e), p) for v, found in detections.items() if v in instances for c, s, e, p in found if c == name
            ]
            truth = [(v, (s, e)) for v, found in instances.items() for c, s, e in found if c == name]
            pieces = [(v, (s, e)) for v, s, e in spans]
            values.append(class_average_precision(of_class, truth, threshold, spans=pieces, protocol=protocol))
        means.append(sum(values) / len(values))
    return means
