"""The archive that the Comfy registry would hand out: what git tracks, less what .comfyignore names."""

import ast
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

import skrr_engine

PACK = Path(__file__).resolve().parents[2]
IGNORED = (".ci", ".github", "tests", "benchmarks", "docs/results", "skrr_engine/demo/training")
# Most of it is the small trained pipeline of Skrr Demo Models.
MOST_BYTES = 22_000_000
# What scanners look for in a node pack, and what nothing in this one needs at run time.
MODULES = set(
    "subprocess pickle marshal shelve dill ctypes requests urllib urllib3 http httpx socket ftplib smtplib telnetlib "
    "paramiko pip ensurepip importlib runpy code codeop multiprocessing pty webbrowser winreg".split()
)
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
CALLS |= {f"os.{name}{end}" for name in ("exec", "spawn") for end in ("l", "le", "lp", "v", "ve", "vp", "vpe")}


def git(*arguments):
    # A checkout may belong to somebody else than who tests it.
    command = ["git", "-c", "safe.directory=*", "-C", str(PACK), *arguments, "-z"]
    return set(filter(None, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")))


@pytest.fixture(scope="module")
def names():
    """What is packed. .comfyignore has the syntax of .gitignore, so git itself says what it names."""
    if not (PACK / ".git").exists():
        pytest.skip("this is no checkout: only git knows what is packed")
    return sorted(git("ls-files") - git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"))


@pytest.fixture(scope="module")
def archive(names, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.write(PACK / name, name)
    return path


def test_it_holds_what_runs_and_is_read(names):
    tops = {name.partition("/")[0] for name in names}
    assert tops == {
        "CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "docs", "locales", "nodes", "pyproject.toml",
        "skrr_engine", "web", "workflows",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(tuple(f"{folder}/" for folder in IGNORED))]
    files = [path for house in ("nodes", "skrr_engine") for path in (PACK / house).rglob("*.py")]
    code = {path.relative_to(PACK).as_posix() for path in files}
    left = {name for name in code - set(names) if not name.startswith("skrr_engine/demo/training/")}
    assert left == set()
    kinds = {Path(name).suffix for name in names} - {""}
    assert kinds == {
        ".py", ".md", ".svg", ".png", ".jpg", ".json", ".toml", ".txt", ".mjs", ".js", ".safetensors", ".model",
    }  # fmt: skip


def test_its_data_is_there(names):
    data = [f"skrr_engine/demo/weights/{name}" for name in ("encoder.safetensors", "denoiser.safetensors")]
    data += ["skrr_engine/presets/flux1-dev.json", "skrr_engine/prompts/calibration.txt", "web/docs/SkrrApply.md"]
    assert set(data) <= set(names)


def test_what_readme_shows_and_links_is_packed(names):
    text = (PACK / "README.md").read_text(encoding="utf-8")
    linked = {target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if not target.startswith("http")}
    assert {"docs/idea.svg", "docs/demo-pictures.png"} <= linked <= set(names)


def test_it_is_small(archive, names):
    assert archive.stat().st_size < MOST_BYTES
    others = [name for name in names if not name.startswith("skrr_engine/demo/weights/")]
    assert sum((PACK / name).stat().st_size for name in others) < 3_000_000


def packed_code(names):
    return [(name, (PACK / name).read_text(encoding="utf-8")) for name in names if name.endswith(".py")]


def test_no_packed_code_imports_what_is_left_out(names):
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names}
    for name, text in packed_code(names):
        package = name.split("/")[:-1]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                target = ".".join([*package[: len(package) - node.level + 1], *node.module.split(".")])
                assert target in modules, f"{name} imports {target}"


def test_nothing_that_scanners_flag(names):
    for name, text in packed_code(names):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in CALLS, f"{name}, line {node.lineno}"
            found = set()
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {node.module.partition(".")[0]}
            assert not found & MODULES, f"{name}, line {node.lineno}"
    for name in names:
        if name.endswith((".js", ".mjs")):
            text = (PACK / name).read_text(encoding="utf-8")
            assert not re.search(r"\beval\s*\(|new Function\b|document\.write|https?://(?!www\.w3\.org/)", text), name


def setting(name):
    """Of pyproject.toml; Python has a reader of its own from 3.11 on only."""
    (found,) = re.findall(rf'^{name} = "(.+)"$', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    return found


def test_the_version_is_one_and_has_changes():
    version = setting("version")
    assert skrr_engine.__version__ == version
    changes = (PACK / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", changes, re.M)[0] == version
    for name in (PACK / "workflows").glob("*.json"):
        assert set(re.findall(r'"cnr_id": "skrr",\s+"ver": "(.+?)"', name.read_text(encoding="utf-8"))) == {version}


def test_icon_and_banner_are_where_the_registry_looks():
    for name, ratio in (("Icon", 1), ("Banner", 21 / 9)):
        path = PACK / setting(name).partition("/main/")[2]
        text = path.read_text(encoding="utf-8")
        assert len(text) < 10_000 and "<script" not in text
        width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', text).groups())
        assert width / height == pytest.approx(ratio)
