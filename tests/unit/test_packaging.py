"""What `pip install .` puts into site-packages: the engine and its data, and no `nodes` in ComfyUI's way."""

import subprocess
import sys
import zipfile
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_the_engine_only(tmp_path):
    copy = tmp_path / "pack"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((PACK / name).read_bytes())
    for path in PACK.glob("skrr_engine/**/*.*"):
        if "__pycache__" not in path.parts and path.is_file():
            target = copy / path.relative_to(PACK)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (copy / "nodes").mkdir()
    (copy / "nodes" / "__init__.py").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {p.relative_to(copy).as_posix() for p in copy.glob("skrr_engine/**/*.*") if p.is_file()}
    assert names == wanted
