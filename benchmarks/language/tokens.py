"""The tokenizers of the models' own files."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.language.models import Model, find_file

__all__ = ["open_tokenizer"]


def open_tokenizer(model: Model, folder: Path) -> Callable[[str], list[int]]:
    """text -> ids without a start token. Read from the GGUF file by transformers, which takes its time; kept in
    `folder` for the next time."""
    from tokenizers import Tokenizer

    kept = folder / f"{model.slot}.tokenizer.json"
    if not kept.exists():
        from transformers import AutoTokenizer

        file = find_file(model)
        folder.mkdir(parents=True, exist_ok=True)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).backend_tokenizer.save(str(kept))
    tokenizer = Tokenizer.from_file(str(kept))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
