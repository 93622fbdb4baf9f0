from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from actionpool.errors import DataError, UsageError
from actionpool.evaluation.protocols import PROTOCOLS, Average, find_protocol, with_exclusions


def test_every_protocol_is_complete():
    names = {f"thumos14-{n}{suffix}" for n in (213, 212, 211, 210) for suffix in ("", "+ambiguous")}
    assert set(PROTOCOLS) == names | {"thumos14-wtalc-legacy", "anet1.2-val", "anet1.3-val", "own-thumos", "own-anet"}
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and len(protocol.description) > 30
        json.dumps(protocol.to_json(), allow_nan=False)
        assert all(len(reason) > 20 for reason in protocol.exclusions.values())
        with pytest.raises(FrozenInstanceError):
            protocol.name = "other"


@pytest.mark.parametrize(("size", "left_out"), [(213, []), (212, [1292]), (211, [270, 1496]), (210, [270, 1292, 1496])])
def test_thumos_lists(size, left_out):
    for suffix in ("", "+ambiguous"):
        protocol = find_protocol(f"thumos14-{size}{suffix}")
        assert sorted(protocol.exclusions) == [f"video_test_{number:07d}" for number in left_out]
        assert protocol.num_videos == size and protocol.split == "test"
        assert protocol.ambiguous == ("ignored" if suffix else "false")


def test_thresholds_are_those_of_the_official_scorers_to_the_last_digit():
    assert find_protocol("thumos14-213").tious[2] == 0.30000000000000004
    assert find_protocol("anet1.3-val").tious[8] == 0.8999999999999999
    assert len(find_protocol("anet1.2-val").tious) == 10


def test_customary_averages():
    averages = {average.name: average for average in find_protocol("thumos14-213").averages}
    tious = find_protocol("thumos14-213").tious
    assert averages["mAP .1:.5"].of(tious) == [0, 1, 2, 3, 4]
    assert averages["mAP .3:.7"].of(tious) == [2, 3, 4, 5, 6]
    assert averages["mAP .1:.7"].of(tious) == [0, 1, 2, 3, 4, 5, 6]
    assert averages["mAP .1:.9"].of(tious) == list(range(9))


def test_legacy_rules():
    legacy = find_protocol("thumos14-wtalc-legacy")
    assert (legacy.matching, legacy.precision, legacy.ambiguous) == ("first", "raw", "dropped")
    assert legacy.grid_per_second == 25 / 16 and legacy.num_videos == 212


def test_unknown_name_lists_the_known():
    with pytest.raises(UsageError, match=r"'thumos-213' is no protocol. Did you mean 'thumos14-213'\? Known: anet1.2"):
        find_protocol("thumos-213")


@pytest.mark.parametrize("tious", [(), (0.5, 0.3), (0.5, 0.5), (0.0, 0.5), (0.5, 1.5)])
def test_thresholds_that_cannot_be(tious):
    with pytest.raises(UsageError, match="ascending numbers"):
        replace(find_protocol("own-thumos"), tious=tious)


def test_average_over_nothing():
    with pytest.raises(UsageError, match="at least one of its thresholds"):
        replace(find_protocol("own-thumos"), averages=(Average("none", 0.91, 0.99),))


def test_own_list_of_blocked_videos_is_part_of_the_name(tmp_path):
    path = tmp_path / "blocked.json"
    path.write_text('["abc", "def"]')
    protocol = with_exclusions(find_protocol("anet1.3-val"), path)
    assert protocol.name == "anet1.3-val, without the 2 of blocked.json"
    assert protocol.exclusions == {"abc": "listed in blocked.json", "def": "listed in blocked.json"}
    path.write_text('{"abc": "gone"}')
    assert with_exclusions(find_protocol("own-anet"), path).exclusions == {"abc": "gone"}


@pytest.mark.parametrize("text", ["", "[", "[]", "3", '{"a": 1}', "[" * 100_000])
def test_list_that_is_none(tmp_path, text):
    path = tmp_path / "blocked.json"
    path.write_text(text)
    with pytest.raises(DataError, match="expected"):
        with_exclusions(find_protocol("anet1.3-val"), path)


def test_fixed_lists_take_no_other(tmp_path):
    with pytest.raises(UsageError, match="is about exactly 213 videos"):
        with_exclusions(find_protocol("thumos14-213"), tmp_path / "x.json")
