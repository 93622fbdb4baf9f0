"""The house: imports run one way, rooms name what they offer, functions fit a screen; read from the source itself."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import actionpool

SOURCE = Path(actionpool.__file__).parent
FLOORS = (
    {"errors", "system", "reporting"},
    {"files", "values", "config"},
    {"localization", "video", "models"},
    {"data"},
    {"evaluation"},
    {"results"},
    {"inference", "show"},
    {"training", "viewer"},
    {"commands"},
    {"cli", "__init__", "__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
APART = {  # what a room must not reach, not even through others
    "models": {"data", "video", "lightning", "av", "cv2"},
    "video": {"data", "models", "torch", "lightning"},
    "data": {"models", "lightning"},
    "localization": {"video", "models", "data", "torch", "av"},
    "evaluation": {"models", "inference", "lightning"},
    "show": {"models", "inference", "lightning"},
    "viewer": {"models", "inference", "lightning"},
}
MOST_LINES, MOST_PARAMETERS, MOST_FILES = 60, 8, 12
ONE_FILE_A_VERB = "commands"  # as many files as verbs

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def imports_of(module, *, for_types=True):
    """Everything that a module imports, also inside functions: (module, name or None)."""
    tree = TREES[module]
    types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inside in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in types and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: imports name the whole path"
            yield from ((node.module, alias.name) for alias in node.names)


def own(name, member=None):
    """The module of ours that an import means; None for others'."""
    if name.partition(".")[0] != "actionpool":
        return None
    inside = name.partition(".")[2]
    if member is not None and f"{inside}.{member}".strip(".") in FILES:
        return f"{inside}.{member}".strip(".")
    return inside or "__init__"


ARROWS = {module: {own(*one) for one in imports_of(module)} - {None, module} for module in FILES}
OTHERS = {
    module: {name.partition(".")[0] for name, _ in imports_of(module, for_types=False)} - {"actionpool"}
    for module in FILES
}


def room_of(module):
    return module.partition(".")[0]


def reached(module):
    """All modules that importing one brings along, itself included."""
    seen, waiting = set(), [module]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += ARROWS.get(one, ())
    return seen


def circles(arrows):
    """Groups of nodes that reach one another."""
    closure = {node: set(targets) for node, targets in arrows.items()}
    for middle in closure:
        for node in closure:
            if middle in closure[node]:
                closure[node] |= closure[middle]
    return {tuple(sorted(other for other in closure[node] if node in closure[other])) for node in closure} - {()}


def functions():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield module, node


def test_every_room_has_a_floor():
    assert {room_of(module) for module in FILES} == set(FLOOR)


def test_imports_go_down():
    climbing = {
        f"{module} -> {target}"
        for module, targets in ARROWS.items()
        for target in targets
        if room_of(module) != room_of(target)
        and FLOOR[room_of(target)] >= FLOOR[room_of(module)] > 1
        and FLOOR[room_of(module)] < len(FLOORS) - 1
    }
    assert not climbing


@pytest.mark.parametrize("room", sorted(APART))
def test_rooms_that_never_meet(room):
    for module in FILES:
        if room_of(module) == room:
            for other in reached(module):
                met = APART[room] & ({room_of(other)} | OTHERS.get(other, set()))
                assert not met, f"{module} reaches {met} through {other}"


def test_no_circle_of_files_or_rooms():
    assert circles(ARROWS) == set()
    rooms = {}
    for module, targets in ARROWS.items():
        rooms.setdefault(room_of(module), set()).update({room_of(target) for target in targets} - {room_of(module)})
    assert circles(rooms) == set()


def test_only_the_video_room_knows_the_decoder():
    assert {room_of(module) for module in FILES if "av" in OTHERS[module]} == {"video"}


def test_rooms_import_only_what_others_offer():
    """Each room's ``PUBLIC`` lists exactly the names that other rooms take."""
    taken = {}
    for module in FILES:
        for name, member in imports_of(module):
            target = own(name, member)
            if target is None or room_of(target) in (room_of(module), "__init__") or room_of(target) == target:
                continue
            inside = name.partition(".")[2].partition(".")[2]
            shown = member if f"{inside}.{member}".strip(".") == target.partition(".")[2] else f"{inside}.{member}"
            taken.setdefault(room_of(target), set()).add(shown.strip("."))
    for room in {room_of(module) for module in FILES if "." in module} - {"cli", "commands"}:
        offered = importlib.import_module(f"actionpool.{room}").PUBLIC
        listed = {f"{module}.{name}" for module, names in offered.items() for name in names.split()}
        assert taken.get(room, set()) == listed, room


def test_functions_fit_a_screen():
    long = {
        f"{module}.{node.name}": lines
        for module, node in functions()
        if (lines := node.end_lineno - node.lineno + 1) > MOST_LINES and room_of(module) != "cli"
    }
    assert not long


def test_functions_take_few_parameters():
    wide = {}
    for module, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        number = len([one for one in arguments if one.arg not in ("self", "cls")])
        if number > MOST_PARAMETERS and room_of(module) != "cli":  # an option of the command line is a parameter
            wide[f"{module}.{node.name}"] = number
    assert not wide


def test_folders_hold_few_files():
    folders = {path.parent for path in FILES.values()}
    crowded = {
        folder.relative_to(SOURCE).as_posix(): number
        for folder in folders
        if (number := len(list(folder.glob("*.py")))) > MOST_FILES and folder.name != ONE_FILE_A_VERB
    }
    assert not crowded
    assert len(list(SOURCE.glob("*.py"))) <= 8


def test_each_verb_is_one_file_and_one_function():
    for path in (SOURCE / ONE_FILE_A_VERB).glob("[!_]*.py"):
        assert callable(getattr(importlib.import_module(f"actionpool.commands.{path.stem}"), path.stem))
        assert path.stem in actionpool.__all__


def test_exported_names():
    for name in actionpool.__all__:
        assert getattr(actionpool, name) is not None
    for_types = {name for _, name in imports_of("__init__") if name not in (None, "annotations", "TYPE_CHECKING")}
    assert for_types == set(actionpool.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = actionpool.nothing
