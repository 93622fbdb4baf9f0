"""Splits: whole groups, every class in proportion, the same draw for the same seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actionpool.data.sources import Example, Source, read_source
from actionpool.data.splits import SplitPlan, read_split_rows, read_splits, write_splits
from actionpool.errors import ActionPoolError, AnnotationError, UsageError
from actionpool.values import Interval
from support.splits import plan_splits, positions

ROOT = Path("/data")


def example(video: str, *labels: str, interval: Interval | None = None, **columns: str) -> Example:
    return Example(video, ROOT / video, labels, interval, columns)


def source_of(examples: list[Example]) -> Source:
    classes = tuple(sorted({label for item in examples for label in item.labels}))
    return Source("folder", ROOT, tuple(examples), classes, ())


def by_class(source: Source, plan: SplitPlan, split: str) -> Counter[str]:
    return Counter(
        label
        for position, item in enumerate(source.examples)
        if plan.assignment[position] == split
        for label in item.labels
    )


def clips(**counts: int) -> Source:
    return source_of([example(f"{name}/{i}.mp4", name) for name, count in counts.items() for i in range(count)])


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """Up to 40 examples of up to 4 classes in up to 12 groups, some with several labels."""
    labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=2, unique=True).map(sorted)
    rows = draw(st.lists(st.tuples(labels, st.integers(0, 11)), min_size=3, max_size=40))
    items = [example(f"{i}.mp4", *names, group=f"g{group}") for i, (names, group) in enumerate(rows)]
    assume(len({item.columns["group"] for item in items}) > 2)
    return source_of(items)


def check_groups(source: Source, plan: SplitPlan) -> None:
    """Every example has a split, and no group has two."""
    assert sorted(plan.assignment) == list(range(len(source.examples)))
    sides = defaultdict(set)
    for position, item in enumerate(source.examples):
        sides[item.columns["group"]].add(plan.assignment[position])
    assert all(len(found) == 1 for found in sides.values())


@settings(max_examples=120, deadline=None)
@given(
    source=sources(), seed=st.integers(0, 5), val=st.sampled_from([0, 0.1, 0.3]), test=st.sampled_from([0.1, 0.2, 0.4])
)
def test_drawn_splits(source: Source, seed: int, val: float, test: float) -> None:
    plan = plan_splits(source, seed=seed, val_fraction=val, test_fraction=test)
    check_groups(source, plan)
    assert set(plan.assignment.values()) <= {"train", "val", "test"}
    assert val > 0 or "val" not in plan.assignment.values()
    assert set(by_class(source, plan, "train")) == set(source.classes)  # what is scored can be learned
    assert plan_splits(source, seed=seed, val_fraction=val, test_fraction=test) == plan
    order = list(range(len(source.examples)))
    random.Random(seed).shuffle(order)
    other = source_of([source.examples[position] for position in order])
    again = plan_splits(other, seed=seed, val_fraction=val, test_fraction=test)
    assert {position: again.assignment[i] for i, position in enumerate(order)} == plan.assignment


@settings(max_examples=120, deadline=None)
@given(source=sources(), folds=st.integers(2, 6), seed=st.integers(0, 3), val=st.sampled_from([0, 0.2]))
def test_folds(source: Source, folds: int, seed: int, val: float) -> None:
    num_groups = len({item.columns["group"] for item in source.examples})
    assume(folds <= num_groups)
    tested: Counter[int] = Counter()
    for fold in range(folds):
        plan = plan_splits(source, folds=folds, fold=fold, seed=seed, val_fraction=val)
        check_groups(source, plan)
        assert positions(plan, "test")  # no fold is empty
        tested.update(positions(plan, "test"))
    assert tested == dict.fromkeys(range(len(source.examples)), 1)  # each example is tested exactly once


@settings(max_examples=120, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    val=st.sampled_from([0.1, 0.15, 0.3]),
    test=st.sampled_from([0.1, 0.15, 0.3]),
    folds=st.integers(2, 7),
)
def test_single_clips_are_stratified_exactly(counts: list[int], val: float, test: float, folds: int) -> None:
    source = clips(**{f"c{i}": count for i, count in enumerate(counts)})
    assume(sum(counts) > folds)
    plan = plan_splits(source, val_fraction=val, test_fraction=test)
    for i, count in enumerate(counts):
        for part, share, least in (("test", test, 2), ("val", val, 4)):
            naive = 0 if count < least else max(1, int(count * share + 0.5))
            assert by_class(source, plan, part)[f"c{i}"] == naive
    parts = [plan_splits(source, folds=folds, fold=fold, val_fraction=0) for fold in range(folds)]
    sizes = [len(positions(part, "test")) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for name in source.classes:
        shares = [by_class(source, part, "test")[name] for part in parts]
        assert max(shares) - min(shares) <= 1


def test_grouped_folds_are_balanced_nearly_as_well_as_can_be() -> None:
    """Against 300 random divisions of the same groups: the greedy one is no worse than the best of them."""
    rng = random.Random(3)
    items = [
        example(f"{group}_{i}.mp4", rng.choice("abc"), group=str(group))
        for group in range(30)
        for i in range(rng.randint(1, 6))
    ]
    source = source_of(items)
    totals = Counter(item.labels[0] for item in items)

    def badness(fold_of: dict[str, int]) -> float:
        counts: Counter[tuple[int, str]] = Counter()
        for item in items:
            counts[fold_of[item.columns["group"]], item.labels[0]] += 1
        return sum((counts[fold, name] - totals[name] / 5) ** 2 / totals[name] for fold in range(5) for name in totals)

    ours = {}
    for fold in range(5):
        plan = plan_splits(source, folds=5, fold=fold, val_fraction=0)
        ours.update({items[position].columns["group"]: fold for position in positions(plan, "test")})
    drawn = [{str(group): rng.randrange(5) for group in range(30)} for _ in range(300)]
    assert badness(ours) <= min(badness(division) for division in drawn)


def test_seeds_differ() -> None:
    source = clips(a=40, b=40)
    assert plan_splits(source, seed=0).assignment != plan_splits(source, seed=1).assignment
    first = plan_splits(source, folds=4, fold=0, seed=0)
    assert positions(first, "test") != positions(plan_splits(source, folds=4, fold=0, seed=1), "test")


def test_leave_one_group_out_is_in_the_order_of_names() -> None:
    items = [example(f"{name}_{c}.mp4", c, subject=name) for name in ("s10", "s9", "s1", "s2") for c in "ab"]
    source = source_of(items)
    for fold, name in enumerate(["s1", "s2", "s9", "s10"]):
        plan = plan_splits(source, group="subject", folds=4, fold=fold, val_fraction=0.25)
        assert {items[position].columns["subject"] for position in positions(plan, "test")} == {name}
        assert len({items[position].columns["subject"] for position in positions(plan, "val")}) == 1
        assert f"leave one group out: group '{name}' ({fold} of 0 to 3)" in plan.how


def test_small_classes() -> None:
    source = clips(one=1, two=2, three=3, four=4)
    plan = plan_splits(source)
    table = {
        name: tuple(by_class(source, plan, part)[name] for part in ("train", "val", "test")) for name in source.classes
    }
    assert table == {"one": (1, 0, 0), "two": (1, 0, 1), "three": (2, 0, 1), "four": (2, 1, 1)}
    assert any("1 classes are in train but not in test and are never scored: 'one'" in told for told in plan.warnings)


def test_few_large_groups_still_give_a_test_part() -> None:
    items = [example(f"{s}_{c}_{i}.mp4", c, group=s) for s in ("s1", "s2") for c in "ab" for i in range(10)]
    plan = plan_splits(source_of(items))
    assert len(positions(plan, "test")) == len(positions(plan, "train")) == 20


def test_groups_from_names_copies_and_intervals() -> None:
    items = [
        example("x/v_Run_g01_c01.avi", "run"),
        example("y/v_Run_g01_c02.mp4", "run"),
        example("copy of it.mp4", "run"),
        example("long.mp4", "run", interval=Interval(0, 1)),
        example("long.mp4", "walk", interval=Interval(1, 2)),
        example("alone.mp4", "walk"),
        example("v_Run_g02_c01.avi", "run", group="film 1"),
        example("other.mp4", "walk", group="film 1"),
    ]
    copies = [["copy of it.mp4", "x/v_Run_g01_c01.avi", "never listed.mp4"]]
    for seed in range(5):
        plan = plan_splits(source_of(items), seed=seed, copies=copies)
        assert [plan.groups[i] for i in range(8)] == ["Run_g01"] * 3 + ["long.mp4"] * 2 + ["alone.mp4"] + ["film 1"] * 2
        assert all(len({plan.assignment[i] for i in same}) == 1 for same in ((0, 1, 2), (3, 4), (6, 7)))


def test_given_split_is_respected() -> None:
    words = ["train", "Train ", "validation", "test", "unused", "", "testing", "val"]
    items = [example(f"{i}.mp4", "a", split=word) for i, word in enumerate(words)]
    plan = plan_splits(source_of(items))
    expected = ["train", "train", "val", "test", "unused", "unused", "test", "val"]
    assert [plan.assignment[i] for i in range(8)] == expected
    assert plan.how == "as given in the column 'split'"


def test_validation_comes_from_the_given_training_part() -> None:
    items = [
        example(f"{c}{i}.mp4", c, split1="train" if i < 20 else "test", split2="test", group=f"{c}{i // 2}")
        for c in "ab"
        for i in range(30)
    ]
    source = source_of(items)
    plan = plan_splits(source, val_fraction=0.2)
    check_groups(source, plan)
    assert by_class(source, plan, "val") == {"a": 4, "b": 4}
    assert by_class(source, plan, "test") == {"a": 10, "b": 10}
    assert "validation is 0.2 of its training part" in plan.how
    assert Counter(plan_splits(source, val_fraction=0).assignment.values()) == {"train": 40, "test": 20}
    second = plan_splits(source, split_column="split2")
    assert set(second.assignment.values()) == {"test"}
    assert "no example is in train" in second.warnings


def test_warnings_about_given_splits() -> None:
    items = [
        example("1.mp4", "a", split="train", group="g"),
        example("2.mp4", "b", split="test", group="g"),
        example("3.mp4", "a", split="test"),
        example("4.mp4", "c", split="train"),
        example("5.mp4", split="train"),
        example("6.mp4", split="test"),
    ]
    plan = plan_splits(source_of(items), val_fraction=0, copies=[["3.mp4", "4.mp4"]])
    told = "\n".join(plan.warnings)
    assert "1 classes are in test but not in train and cannot be learned: 'b'" in told
    assert "1 classes are in train but not in test and are never scored: 'c'" in told
    assert "2 groups (videos of one source, or copies) are in train and in test" in told
    assert "2 examples have no label and are not trained on: '5.mp4', '6.mp4'" in told
    assert (plan.assignment[4], plan.assignment[5]) == ("unused", "test")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"folds": 3}, UsageError, r"give both \(--folds K --fold I\)"),
        ({"folds": 3, "fold": 3}, UsageError, "fold=3 of 3; expected 0 to 2"),
        ({"folds": 3, "fold": -1}, UsageError, "expected 0 to 2"),
        ({"folds": 1, "fold": 0}, UsageError, "folds=1; expected at least 2"),
        ({"folds": 9, "fold": 0}, AnnotationError, "9 folds of 8 groups"),
        ({"folds": 2, "fold": 0, "split_column": "camera"}, UsageError, "exclude each other"),
        ({"split_column": "camra"}, UsageError, "no column 'camra' to split by. Did you mean 'camera'"),
        (
            {"split_column": "camera"},
            AnnotationError,
            "column 'camera' of 'a/0.mp4' is 'left'; expected train, val, test",
        ),
        ({"group": "subject"}, UsageError, "no column 'subject' to group by. Known: camera"),
        ({"group": "camera"}, AnnotationError, r"all 8 examples are one group \('left'\) and cannot be divided"),
        ({"val_fraction": 1.0}, UsageError, "val_fraction=1.0; expected 0 <= val_fraction < 1"),
        ({"test_fraction": float("nan")}, UsageError, "test_fraction=nan; expected"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, UsageError, "leave nothing to train on"),
    ],
)
def test_wrong_requests(options: dict[str, object], error: type[Exception], sentence: str) -> None:
    items = [example(f"a/{i}.mp4", "ab"[i % 2], camera="left") for i in range(8)]
    with pytest.raises(error, match=sentence):
        plan_splits(source_of(items), **options)  # type: ignore[arg-type]


def test_nothing_to_learn_from() -> None:
    with pytest.raises(AnnotationError, match="no usable example has a label"):
        plan_splits(source_of([example("a.mp4"), example("b.mp4")]))
    with pytest.raises(AnnotationError, match="has no examples; nothing to split"):
        plan_splits(source_of([]))


def test_files_come_back_exactly(tmp_path: Path) -> None:
    items = [
        example('a, "b"\n;\r\nc.mp4', "x;y", "z\\"),
        example("bad\udcff.mp4", "é"),
        example("long.mp4", "x", interval=Interval(0.1 + 0.2, 1e300)),
        example("long.mp4", "x", interval=Interval(2.0, 3.0), group="g,1"),
        example("none.mp4"),
    ]
    source = source_of(items)
    plan = plan_splits(source)
    path = tmp_path / "splits.csv"
    write_splits(path, source, plan)
    rows = read_split_rows(path)
    assert [(row.video, row.labels, row.interval) for row in rows] == [(e.video, e.labels, e.interval) for e in items]
    assert [(row.group, row.split) for row in rows] == [(plan.groups[i], plan.assignment[i]) for i in range(5)]
    again = read_splits(path, source)
    assert (again.assignment, again.groups) == (plan.assignment, plan.groups)
    assert [file.name for file in tmp_path.iterdir()] == ["splits.csv"]  # no temporary file stays
    more = read_splits(path, source_of([*items[1:], example("new.mp4", "x")]))
    assert more.assignment[4] == "unused"
    assert [more.assignment[i] for i in range(4)] == [plan.assignment[i] for i in range(1, 5)]
    assert "1 examples are not in splits.csv and are not used: 'new.mp4'" in more.warnings
    assert "1 examples of splits.csv are no longer in the data" in more.warnings
    with pytest.raises(AnnotationError, match=r"splits.csv names none of the 1 examples of /data; it is of other data"):
        read_splits(path, source_of([example("new.mp4", "x")]))


def test_a_split_file_is_a_table(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source = read_source(tmp_path)
    plan = plan_splits(source)
    write_splits(tmp_path / "splits.csv", source, plan)
    again = read_source(tmp_path / "splits.csv")
    assert [(e.video, e.labels) for e in again.examples] == [(e.video, e.labels) for e in source.examples]
    assert plan_splits(again, val_fraction=0).assignment == plan.assignment


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("video,label\n", "header 'video,label'; expected 'video,start,end,label,group,split'"),
        ("video,start,end,label,group,split\na,,,x,g,dev\n", "line 2: .*'dev'"),
        ("video,start,end,label,group,split\na,,,x\n", "line 2: .*expected video,start"),
        ("video,start,end,label,group,split\na,0,,x,g,train\n", "line 2: .*the file is damaged, write it anew"),
        ('video,start,end,label,group,split\n"a', "the file is damaged"),
    ],
)
def test_damaged_split_files(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(AnnotationError, match=sentence):
        read_splits(tmp_path / "splits.csv", clips(a=1))
    with pytest.raises(AnnotationError, match="cannot read"):
        read_splits(tmp_path / "missing.csv", clips(a=1))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    source = clips(a=3, b=3)
    plan = plan_splits(source)
    path = tmp_path / "splits.csv"
    write_splits(path, source, plan)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_splits(path, source, SplitPlan({}, "broken"))
    assert path.read_bytes() == before
    with pytest.raises(ActionPoolError, match="cannot write"):
        write_splits(path / "splits.csv", source, plan)
    assert [file.name for file in tmp_path.iterdir()] == ["splits.csv"]


def test_real_leave_one_subject_out(shared_data: Path) -> None:
    source = read_source(shared_data / "weizmann4" / "manifest.csv")
    for fold in range(9):
        plan = plan_splits(source, group="subject", folds=9, fold=fold)
        subjects = {source.examples[position].columns["subject"] for position in positions(plan, "test")}
        assert subjects == {str(fold)}
        assert by_class(source, plan, "test") == by_class(source, plan, "val") == dict.fromkeys(source.classes, 1)
        assert plan.warnings == ()


def test_unusable_files_fill_no_share() -> None:
    source = clips(a=8, b=8)
    broken = [source.examples[position].path for position in (0, 1, 2, 3, 8)]
    plan = plan_splits(source, unusable=broken)
    assert [plan.assignment[position] for position in (0, 1, 2, 3, 8)] == ["unused"] * 5
    assert by_class(source, plan, "test") == by_class(source, plan, "val") == {"a": 1, "b": 1}
    fold = plan_splits(source, folds=2, fold=0, val_fraction=0, unusable=broken)
    assert by_class(source, fold, "test")["a"] == 2
    given_split = source_of([example(f"{i}.mp4", "a", split="train" if i < 8 else "test") for i in range(10)])
    kept = plan_splits(given_split, unusable=[given_split.examples[i].path for i in (0, 9)])
    assert (kept.assignment[0], kept.assignment[9]) == ("train", "test")
    assert plan_splits(given_split, val_fraction=0).assignment[0] == "train"


def test_data_without_columns_says_how_to_get_them() -> None:
    with pytest.raises(UsageError, match=r"no column 'subject' to group by. This data has no columns; a CSV table can"):
        plan_splits(clips(a=2, b=2), group="subject")
