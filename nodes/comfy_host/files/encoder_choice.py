"""Which of the given files a level cuts, and what stands in for what is missing in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.files.files import PLAN_KEY, PREFIXES_KEY, match_encoder
from ....skrr_engine.files.header import Header, read_header
from ....skrr_engine.files.tensor_names import find_encoders
from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.plans.plan import Level, Plan
from ....skrr_engine.plans.plan_json import CORRECTIONS, loads
from .freed_files import free_in

__all__ = ["EncoderFile", "find_cuts", "open_header", "plan_inside"]


@dataclass(frozen=True)
class EncoderFile:
    """One file. `slot`: the encoder in it that is cut. `stand_ins`: what a smaller file lacks and ComfyUI needs to
    recognise the encoder (name -> dtype as safetensors names it, shape). `sizes`: the bytes of the free parts that it
    was written without, by their kind."""

    header: Header
    slot: str | None = None
    stand_ins: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_pruned(self) -> bool:
        """Whether it brings its plan."""
        return PLAN_KEY in self.header.metadata


def open_header(path: Path) -> Header:
    """The header of a file that can be read in part. Raises SkrrError naming the cure for others."""
    if path.suffix.lower() not in (".safetensors", ".sft"):
        own = path.suffix.lower() != ".gguf"
        loader = "ComfyUI's own CLIP loader" if own else "ComfyUI-GGUF's CLIPLoader (GGUF)"
        raise SkrrError(
            f"{path.name} is no safetensors file, which alone can be read in part. Use {loader}, then Skrr Apply."
        )
    return read_header(path)


def plan_inside(headers: list[Header], plan: Plan | None) -> tuple[Plan, Level] | None:
    """The plan of the one pruned file among the files; None where all are dense."""
    inside = [header for header in headers if PLAN_KEY in header.metadata]
    if not inside:
        return None
    names = " and ".join(header.path.name for header in inside)
    if len(inside) > 1:
        raise SkrrError(f"{names} are both pruned; only one of the files may be. Load the other one dense.")
    if plan is not None:
        raise SkrrError(f"{names} is pruned already and brings its plan. Disconnect the plan, or load the dense file.")
    found = loads(inside[0].metadata[PLAN_KEY], {CORRECTIONS})
    if len(found.levels) != 1:
        raise PlanError(f"{names} holds a plan of {len(found.levels)} levels; a file holds one. Write it again.")
    return found, found.levels[0]


def find_cuts(headers: list[Header], plan: Plan | None, level: Level | None) -> list[EncoderFile]:
    """The files, each with the slot of the encoder that `level` cuts in it, if there is one. Raises PlanError when no
    file fits an encoder of the plan, SkrrError for checkpoints."""
    files = {header.path: EncoderFile(header, None, *free_in(header)) for header in headers}
    for header in headers if level is None else ():
        prefixes = [encoder.prefix for encoder in find_encoders(header.tensors)]
        if prefixes and all(prefixes):
            raise _checkpoint(header)
    for slot, cut in level.cuts.items() if level is not None else ():
        errors, shape = [], plan.encoders[slot].architecture
        for header in headers:
            if PLAN_KEY in header.metadata:
                _check_prefix(header)
                stand_ins = files[header.path].stand_ins
                lacking = {
                    n: ("F16", s) for i in cut.skip for n, s in _sub_block(shape, i).items() if n not in header.tensors
                }
                files[header.path] = replace(files[header.path], slot=slot, stand_ins=lacking | stand_ins)
                break
            try:
                encoder = match_encoder(header, plan, slot)
            except PlanError as error:
                errors.append(str(error))
                continue
            if encoder.prefix:
                raise _checkpoint(header)
            files[header.path] = replace(files[header.path], slot=slot)
            break
        else:
            raise PlanError(errors[0])
    return list(files.values())


def _checkpoint(header: Header) -> SkrrError:
    return SkrrError(
        f"{header.path.name} is a checkpoint with the encoder inside. Load it with ComfyUI's own checkpoint loader and "
        "put Skrr Apply behind it."
    )


def _check_prefix(header: Header) -> None:
    """A file pruned out of a checkpoint keeps the checkpoint's names, which no text-encoder loader knows."""
    prefixes = header.metadata.get(PREFIXES_KEY, "{}")
    if any(encoder.prefix for encoder in find_encoders(header.tensors)):
        raise SkrrError(
            f"{header.path.name} holds its encoder under other names ({prefixes[:80]}): it was pruned out of a "
            "checkpoint. Prune the text-encoder file instead."
        )


def _sub_block(shape: Architecture, index: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a sub-block's parameters. ComfyUI tells encoders apart by some of them."""
    width, wide, inner = shape.width, shape.feed_forward, shape.heads * shape.head_width
    if shape.family == "clip":
        layer = f"text_model.encoder.layers.{index // 2}."
        if index % 2:
            norm, matrices = "layer_norm2", {"mlp.fc1": (wide, width), "mlp.fc2": (width, wide)}
        else:
            names = ("q_proj", "k_proj", "v_proj", "out_proj")
            norm, matrices = "layer_norm1", {f"self_attn.{name}": (width, width) for name in names}
        found = {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
        for name, sides in matrices.items():
            found |= {f"{layer}{name}.weight": sides, f"{layer}{name}.bias": sides[:1]}
        return found
    if shape.family == "llama":
        return _of_language_model(shape, index)
    layer = f"encoder.block.{index // 2}.layer.{index % 2}."
    found = {f"{layer}layer_norm.weight": (width,)}
    if index % 2:
        inputs = ("wi_0", "wi_1") if shape.gated else ("wi",)
        found |= {f"{layer}DenseReluDense.{name}.weight": (wide, width) for name in inputs}
        return found | {f"{layer}DenseReluDense.wo.weight": (width, wide)}
    found |= {f"{layer}SelfAttention.{name}.weight": (inner, width) for name in "qkv"}
    if shape.position_bias == "every":
        found[f"{layer}SelfAttention.relative_attention_bias.weight"] = (shape.positions, shape.heads)
    return found | {f"{layer}SelfAttention.o.weight": (width, inner)}


def _of_language_model(shape: Architecture, index: int) -> dict[str, tuple[int, ...]]:
    """The same of a language model of the Llama kind."""
    layer, width, wide = f"model.layers.{index // 2}.", shape.width, shape.feed_forward
    inner, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    if index % 2:
        norms = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
        found = {f"{layer}{norm}.weight": (width,) for norm in norms if shape.post_norms}
        found = found or {f"{layer}post_attention_layernorm.weight": (width,)}
        found |= {f"{layer}mlp.{name}_proj.weight": (wide, width) for name in ("gate", "up")}
        return found | {f"{layer}mlp.down_proj.weight": (width, wide)}
    outputs = {"q_proj": inner, "k_proj": keys, "v_proj": keys}
    found = {f"{layer}input_layernorm.weight": (width,), f"{layer}self_attn.o_proj.weight": (width, inner)}
    for name, size in outputs.items():
        found[f"{layer}self_attn.{name}.weight"] = (size, width)
        if shape.attention_bias:
            found[f"{layer}self_attn.{name}.bias"] = (size,)
    if shape.head_norms:
        found |= {f"{layer}self_attn.{name}.weight": (shape.head_width,) for name in ("q_norm", "k_norm")}
    return found | ({f"{layer}post_attention_layernorm.weight": (width,)} if shape.post_norms else {})
