"""Pages that a command generates out of the cells that it measured: written, or held against the one that is there."""

from pathlib import Path

from skrr_engine.disk import write_atomically

__all__ = ["settle"]


def settle(page: Path, text: str, cells: Path, check: bool) -> int:
    """Writes `text`, which the file `cells` generates, as `page`. With `check` writes nothing and says whether it
    stands there already. The exit status: 1 where it does not."""
    if not check:
        write_atomically(page, text.encode())
        return 0
    same = page.is_file() and page.read_text(encoding="utf-8") == text
    print(f"{page.name} is {'' if same else 'not '}what {cells.name} generates.")
    return int(not same)
