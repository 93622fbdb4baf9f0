"""Limits on single videos, from the configuration to the reader and the probe."""

from __future__ import annotations

from typing import TypedDict

from actionpool.config.sections import LimitsConfig
from actionpool.video.limits import DecodeLimits


class ProbeOptions(TypedDict):
    """What ``Catalog.probe`` takes of limits."""

    limits: DecodeLimits
    timeout_seconds: float
    max_memory_bytes: int


def decode_limits(config: LimitsConfig) -> DecodeLimits:
    """The limits of a reader, as configured."""
    return DecodeLimits(**config.model_dump(exclude={"probe_seconds", "probe_memory_bytes"}))


def probe_options(config: LimitsConfig) -> ProbeOptions:
    """The limits of a probe, as configured."""
    return {
        "limits": decode_limits(config),
        "timeout_seconds": config.probe_seconds,
        "max_memory_bytes": config.probe_memory_bytes,
    }
