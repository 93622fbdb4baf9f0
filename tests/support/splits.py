"""Splits and reports as tests ask for them."""

from __future__ import annotations

from actionpool.data import check, splits
from actionpool.data.splits import find_copies
from actionpool.errors import DataError
from actionpool.reporting import SILENT


def positions(plan, split):
    """The examples of a part of a split, in the order of the source."""
    return tuple(position for position, name in sorted(plan.assignment.items()) if name == split)


def plan_splits(source, *, copies=(), unusable=(), **request):
    """The plan of a request, given by its fields."""
    return splits.plan_splits(source, splits.SplitRequest(**request), copies=copies, unusable=unusable)


def check_source(source, catalog, *, plan=None, report=SILENT):
    """The report on a source whose files are probed now; without a plan, the default split is made."""
    probes = catalog.probe(dict.fromkeys(example.path for example in source.examples), report=report)
    copies, problem = find_copies(source, probes), ""
    broken = [path for path, probe in probes.items() if probe.reason is not None]
    try:
        plan = plan or plan_splits(source, copies=copies, unusable=broken)
    except DataError as error:
        problem = str(error)
    return check.check_source(source, probes, copies, plan, problem)
