"""What of an encoder is read: how many layers run before the last state that its CLIP hands on.

It is asked of the CLIP object itself, as it would encode now (clip skip as the workflow set it). Where ComfyUI's own
encoding is replaced by other code, all counts as read.
"""

from dataclasses import dataclass

from comfy.sd1_clip import SDClipModel

from ..encoders.anatomy import Anatomy, deepest_read, reads_last
from .because import Because, Listed
from .kinds import hands_on_pooled

__all__ = ["Reads", "encode_options", "reads_of"]

# By these a CLIP encodes: what another pack puts in their place may read other states.
ENCODES = frozenset({"forward", "encode", "encode_token_weights", "process_tokens", "set_clip_options"})


@dataclass(frozen=True)
class Reads:
    """`layers` of `of` run before the last state that is read; `norm`, `projection`: whether the norm behind the last
    layer and the pooled output's projection are read too. `words` says it: "layer 35 of 36"."""

    layers: int
    of: int
    norm: bool
    projection: bool
    words: Because


def reads_of(clip, slot: str, sd_model, anatomy: Anatomy) -> Reads:
    """What the CLIP reads of the encoder `sd_model` in `slot`."""
    layers = len(sd_model.transformer.get_submodule(anatomy.layers))
    own = type(sd_model).forward is not SDClipModel.forward or "forward" in vars(sd_model)
    # An object patch stands in its place only while the CLIP is loaded.
    if own or any(path.rpartition(".")[2] in ENCODES for path in clip.patcher.object_patches):
        return Reads(layers, layers, True, True, Because("this CLIP encodes in a way of its own"))
    layer, index, projected = encode_options(clip, sd_model)
    request = layer if isinstance(layer, list) or layer == "all" else None if layer == "last" else index
    pooled = anatomy.pooled and hands_on_pooled(clip.patcher.model, slot)
    depth = layers if pooled else deepest_read(request, layers)
    # The norm behind the last layer also goes over states before it, where the encoder is set up so.
    norm = reads_last(request, layers) or pooled or sd_model.layer_norm_hidden_state
    return Reads(depth, layers, norm, pooled and projected, _words(request, pooled, layers))


def encode_options(clip, sd_model):
    """(layer, layer_idx, projected pooled) as the CLIP's own encode would set them. The model is left as it was."""
    tree = clip.patcher.model
    tree.reset_clip_options()
    if clip.layer_idx is not None:
        tree.set_clip_options({"layer": clip.layer_idx})
    options = sd_model.layer, sd_model.layer_idx, sd_model.return_projected_pooled
    tree.reset_clip_options()
    return options


def _words(request, pooled: bool, layers: int) -> Because:
    if isinstance(request, list):
        read = Listed(sorted({index % layers if index < 0 else index for index in request}))
        if len(read) == 1:
            return Because("this CLIP reads layer {read} of {layers}", read=read[0], layers=layers)
        return Because("this CLIP reads layers {read} of {layers}", read=read, layers=layers)
    if request == "all":
        return Because("this CLIP reads all {layers} layers", layers=layers)
    depth = deepest_read(request, layers)
    if pooled and depth < layers:
        also = "this CLIP reads layer {read} of {layers} and the last for the pooled output"
        return Because(also, read=depth, layers=layers)
    return Because("this CLIP reads layer {read} of {layers}", read=depth, layers=layers)
