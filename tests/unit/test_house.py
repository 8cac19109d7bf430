"""The house rules that a machine can hold: who imports whom, sizes of files, and what never stands in the code."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]
CODE = sorted([*(PACK / "skrr_engine").rglob("*.py"), *(PACK / "nodes").rglob("*.py"), *PACK.glob("*.py")])
ALL = sorted([*CODE, *(PACK / "tests").rglob("*.py"), *(PACK / "benchmarks").rglob("*.py")])
MAX_LINES = 350
MAX_FILES = 14
# Top-level modules of ComfyUI; comfy_api is its public, versioned door.
COMFY = {"comfy", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "execution", "server", "latent_preview"}
NOT_IN_THE_ENGINE = {*COMFY, "comfy_api", "comfy_aimdo"}
FORBIDDEN_MODULES = {"pickle", "subprocess", "marshal", "shelve", "dill", "ctypes"}
# Calls that ask or change the disk; they stand within one of GUARDS, or among those of skrr_engine/disk.py itself.
FILE_CALLS = set(
    "open stat exists is_file is_dir iterdir glob rglob mkdir unlink rename touch samefile fstat fsync getsize "
    "read_bytes read_text write_bytes write_text from_pretrained save_file load_torch_file get_filename_list "
    "get_full_path".split()
)
GUARDS = {"reading", "writing", "new_file"}
NODE_CLASS = re.compile(r"\bSkrr(?!Error\b)[A-Z]\w+")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}


def name_of(path):
    return path.relative_to(PACK).as_posix()


def imports(path):
    """(dots, module, names) of every import in the file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def outside(path):
    """Top-level names of the absolute imports of the file."""
    return {module.partition(".")[0] for dots, module, _ in imports(path) if not dots}


ROOMS = {"skrr_engine": PACK / "skrr_engine", "comfy_host": PACK / "nodes" / "comfy_host"}


def room_of(path, house):
    """The room (or the file of the ground) of a house that a file stands in."""
    return path.relative_to(house).parts[0].removesuffix(".py")


def room_imports(path, house):
    """Rooms of its house that a file imports from."""
    depth = len(path.relative_to(house).parts)
    for dots, module, names in imports(path):
        if dots == depth:
            yield from [module.partition(".")[0]] if module else names


def floors(house):
    """Room -> its place in the list in the __init__ of the house."""
    docstring = ast.get_docstring(ast.parse((house / "__init__.py").read_text(encoding="utf-8")))
    order = [name for line in re.findall(r"^\d+ +(.+)$", docstring, re.M) for name in line.split()]
    assert len(order) == len(set(order))
    return {name: place for place, name in enumerate(order)}


@pytest.mark.parametrize("house", ROOMS.values(), ids=ROOMS)
def test_the_list_of_rooms_is_whole(house):
    parts = {path.stem if path.suffix == ".py" else path.name for path in house.iterdir()}
    assert floors(house).keys() == {part for part in parts if not part.startswith("__")} - {"prompts", "presets"}


@pytest.mark.parametrize("house", ROOMS.values(), ids=ROOMS)
def test_imports_go_down_the_floors(house):
    order, wrong = floors(house), []
    for path in house.rglob("*.py"):
        own = room_of(path, house)
        if not own.startswith("__"):
            found = [name for name in room_imports(path, house) if not name.startswith("__") and name != own]
            wrong += [f"{name_of(path)} imports {name}" for name in found if order[name] > order[own]]
    assert wrong == []


@pytest.mark.parametrize("house", ROOMS.values(), ids=ROOMS)
def test_a_room_is_small_and_says_what_to_read_first(house):
    for room in house.iterdir():
        if (room / "__init__.py").exists():
            assert len(list(room.glob("*.py"))) <= MAX_FILES, room.name
            said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
            first = re.findall(r"`(\w+)(?:\.py)?`", said.rpartition("Read ")[2])
            assert first and all((room / f"{name}.py").exists() for name in first), f"{room.name}: {said}"


@pytest.mark.parametrize("path", sorted((PACK / "skrr_engine").rglob("*.py")), ids=name_of)
def test_the_engine_knows_nothing_of_comfyui(path):
    assert not outside(path) & NOT_IN_THE_ENGINE
    depth = len(path.relative_to(PACK / "skrr_engine").parts)
    assert all(dots <= depth for dots, _, _ in imports(path)), "an import that leaves the engine"


@pytest.mark.parametrize("path", sorted((PACK / "nodes").rglob("*.py")), ids=name_of)
def test_only_comfy_host_imports_comfy(path):
    assert "skrr_engine" not in outside(path), "inside ComfyUI the engine is reached by a relative import"
    if "comfy_host" not in path.parts:
        assert not outside(path) & COMFY


def test_comfy_host_knows_nothing_of_the_nodes():
    for path in (PACK / "nodes" / "comfy_host").rglob("*.py"):
        depth = len(path.relative_to(PACK / "nodes").parts)
        for dots, module, _ in imports(path):
            leaves = dots == depth and not module.startswith("comfy_host")
            assert not leaves or module == "", f"{name_of(path)} imports nodes.{module}"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_code_does_not_hide_errors_or_run_text(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {"" if kind is None else ast.unparse(kind) for kind in caught}
            assert not names & {"", "Exception", "BaseException"}, f"line {node.lineno} catches everything"
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS, f"line {node.lineno}"
    assert not outside(path) & FORBIDDEN_MODULES


def unguarded(node, guarded=False):
    """The calls below `node` that touch the disk and stand outside of every guard."""
    if isinstance(node, ast.With):
        guarded = guarded or any(
            isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) in GUARDS
            for item in node.items
        )
    if isinstance(node, ast.Try):
        caught = {name.id for handler in node.handlers for name in ast.walk(handler.type) if isinstance(name, ast.Name)}
        guarded = guarded or "OSError" in caught
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in FILE_CALLS and not guarded:
        yield f"line {node.lineno}: {ast.unparse(node.func)}"
    for part in ast.iter_child_nodes(node):
        yield from unguarded(part, guarded)


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_what_the_disk_refuses_is_told_in_a_sentence(path):
    """The guards of skrr_engine/disk.py turn an OSError into one, for whatever stands within."""
    asked = {name for _, module, names in imports(path) if module.endswith("disk") for name in names}
    own = {"exists", "is_file", "is_folder"} & asked
    found = [call for call in unguarded(ast.parse(path.read_text(encoding="utf-8"))) if call.split(": ")[1] not in own]
    assert path.name == "disk.py" or found == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_nodes_go_by_their_titles(path):
    """In docstrings and comments: "Skrr Apply", as people see it, not the name of its class."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    words = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    words += [token.string for token in tokens if token.type == tokenize.COMMENT]
    assert not [found for each in words for found in NODE_CLASS.findall(each)]


@pytest.mark.parametrize("path", [PACK / "README.md", *sorted((PACK / "docs").glob("*.md"))], ids=name_of)
def test_pages_call_nodes_by_their_titles(path):
    assert not NODE_CLASS.findall(re.sub(r"`[^`]*`", "", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


@pytest.mark.parametrize("path", sorted((PACK / "skrr_engine").rglob("*.py")), ids=name_of)
def test_what_is_public_has_a_docstring(path):
    """Functions, classes and their public methods that stand in __all__."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for name in ast.literal_eval(node.value)
    }
    for node in tree.body:
        if getattr(node, "name", None) in public:
            assert ast.get_docstring(node), node.name
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    inherited = node.bases and part.name in ("embed", "finish", "identity", "prepare")
                    assert inherited or ast.get_docstring(part), f"{node.name}.{part.name}"
