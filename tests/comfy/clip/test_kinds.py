"""Which outputs of an encoder the model reads is never taken from a base class, and no encoder is cut in the place of
another: not of the tree that does not encode, not a smaller one for the largest."""

import copy
from types import SimpleNamespace

import pytest
import torch
from comfy import sd1_clip, sdxl_clip
from comfy.text_encoders import ace, aura_t5, cosmos, flux, genmo, hidream, hydit, pixart_t5, sd2_clip, wan

from .. import steps
from ..tiny_models import flux_clip, pixart_clip
from .test_odd_clips import cascade_clip

TINY_T5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2, "vocab_size": 100}
TINY_CLIP = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
SIZES = {
    **dict.fromkeys(("t5xxl_model_config", "umt5xxl_model_config", "_model_config", "mt5xl_model_config"), TINY_T5),
    **dict.fromkeys(("clip_l_model_config", "clip_g_model_config", "clip_h_model_config"), TINY_CLIP),
}


class OwnFlux(flux.FluxClipModel):
    """Another pack's: the pooled output joined to the sequence."""

    def encode_token_weights(self, tokens):
        sequence, _ = self.t5xxl.encode_token_weights(tokens["t5xxl"])
        state, pooled = self.clip_l.encode_token_weights(tokens["l"])
        return torch.cat((sequence, state), dim=1), pooled


class OwnSD1(sd1_clip.SD1ClipModel):
    """Another pack's, for a model that may read the pooled output."""


# Tree, its kind, outputs by slot ("" where it cannot be known).
TREES = [
    (sd1_clip.SD1ClipModel, "sd1", {"clip_l": "sequence"}),
    (sd2_clip.SD2ClipModel, "sd2", {"clip_h": "sequence"}),
    (sdxl_clip.SDXLClipModel, "sdxl", {"clip_l": "sequence", "clip_g": "sequence pooled"}),
    (sdxl_clip.SDXLRefinerClipModel, "sdxl", {"clip_g": "sequence pooled"}),
    (sdxl_clip.StableCascadeClipModel, "StableCascadeClipModel", {"clip_g": "sequence pooled"}),
    (flux.flux_clip(), "flux", {"clip_l": "pooled", "t5xxl": "sequence"}),
    (pixart_t5.pixart_te(), "pixart", {"t5xxl": "sequence"}),
    (hidream.hidream_clip(llama=False), "hidream", {s: "pooled" for s in ("clip_l", "clip_g")} | {"t5xxl": "sequence"}),
    (wan.te(), "wan", {"umt5xxl": "sequence"}),
    (genmo.mochi_te(), "MochiTEModel_", {"t5xxl": "sequence"}),
    (cosmos.te(), "CosmosTEModel_", {"t5xxl": "sequence"}),
    (aura_t5.AuraT5Model, "AuraT5Model", {"pile_t5xl": "sequence"}),
    (ace.AceT5Model, "AceT5Model", {"umt5base": "sequence"}),
    (hydit.HyditModel, "HyditModel", {"mt5xl": "sequence"}),
    (OwnFlux, "OwnFlux", {"clip_l": "", "t5xxl": "sequence"}),
    (OwnSD1, "OwnSD1", {"clip_l": "sequence pooled"}),
]


def unloaded(cls):
    """A CLIP as far as it is asked here, without data."""
    tree = cls(device="meta", dtype=torch.float16, model_options=SIZES)
    patcher = SimpleNamespace(model=tree, get_attachment=lambda key: None)
    return SimpleNamespace(patcher=patcher, cond_stage_model=tree)


@pytest.mark.parametrize("cls, kind, outputs", TREES, ids=[kind for _, kind, _ in TREES])
def test_a_tree_is_named_and_read_by_what_it_is(pack, cls, kind, outputs):
    trees, error = pack("nodes.comfy_host.clip.trees"), pack("skrr_engine.errors").SkrrError
    clip = unloaded(cls)
    assert trees.tree_family(clip.patcher.model) == kind
    encoders = {slot: e for slot, e in trees.text_encoders(clip).items() if e.adapter is not None}
    assert encoders.keys() == outputs.keys()
    for slot, encoder in encoders.items():
        if outputs[slot]:
            assert encoder.outputs == tuple(outputs[slot].split())
        else:
            with pytest.raises(error, match=f"does not know whether this CLIP .{kind}. hands .* of {slot} to the"):
                assert encoder.outputs


def test_an_encode_set_on_the_tree_itself_is_no_known_one(pack):
    trees, error = pack("nodes.comfy_host.clip.trees"), pack("skrr_engine.errors").SkrrError
    clip = unloaded(flux.flux_clip())
    clip.patcher.model.encode_token_weights = lambda tokens: None
    assert trees.tree_family(clip.patcher.model) == "FluxClipModel_"
    with pytest.raises(error, match="does not know whether"):
        assert trees.text_encoders(clip)["clip_l"].outputs


def test_the_walk_gives_what_stable_cascade_reads(pack):
    """Its pooled output too: ComfyUI hands it to the model."""
    clip = cascade_clip()
    found = steps.walk(pack, clip, slot="clip_g")
    _, extras = clip.encode_from_tokens_scheduled(clip.tokenize(steps.TEXT))[0]
    assert torch.equal(found["pooled"], extras["pooled_output"])


# --- the tree that encodes ---------------------------------------------------------------------------------


def test_an_encoder_split_out_of_a_clip_is_refused(pack):
    """It encodes; the tree that its patcher still has does not, and would be the one that is cut."""
    split, error = flux_clip(), pack("skrr_engine.errors").SkrrError
    plan = steps.plan_for(pack, split)
    split.cond_stage_model = split.patcher.model.t5xxl
    with pytest.raises(error, match=r"encodes with another encoder \(T5XXLModel\).*\(FluxClipModel_\).*split it"):
        pack("nodes.comfy_host.clip.patching").apply_level(split, plan, plan.levels[0])


@pytest.mark.parametrize("other", [{"seed": 1}, {"dtype": torch.bfloat16, "seed": 1}])
def test_an_encoder_of_the_same_build_with_other_weights_is_refused(pack, other):
    """It encodes; what is loaded, and would be cut, has other weights. In another precision it is the same one."""
    split, error = pixart_clip(), pack("skrr_engine.errors").SkrrError
    plan = steps.plan_for(pack, split)
    apply_level = pack("nodes.comfy_host.clip.patching").apply_level
    split.cond_stage_model = pixart_clip(**{**other, "seed": 0}).cond_stage_model
    assert apply_level(split, plan, plan.levels[0]).clip.cond_stage_model is not split.cond_stage_model
    split.cond_stage_model = pixart_clip(**other).cond_stage_model
    with pytest.raises(error, match=r"encodes with another encoder .* other weights.*split it"):
        apply_level(split, plan, plan.levels[0])


def test_an_encoder_with_other_matrices_alone_is_refused(pack):
    """As of a fine-tune that leaves the norms. Unless a LoRA may stand in the weights of one: then nobody can tell."""
    split, error = pixart_clip(), pack("skrr_engine.errors").SkrrError
    plan = steps.plan_for(pack, split)
    apply_level = pack("nodes.comfy_host.clip.patching").apply_level
    split.cond_stage_model = tree = pixart_clip().cond_stage_model
    assert apply_level(split, plan, plan.levels[0])
    with torch.no_grad():
        tree.t5xxl.transformer.encoder.block[2].layer[1].DenseReluDense.wo.weight.mul_(1.01)
    tree.current_weight_patches_uuid = None  # at rest, as before its first use where a GPU is
    with pytest.raises(error, match=r"encodes with another encoder .* other weights.*split it"):
        apply_level(split, plan, plan.levels[0])
    tree.current_weight_patches_uuid = "loaded"
    assert apply_level(split, plan, plan.levels[0])


def test_a_dense_tree_left_behind_by_a_pruned_one_is_refused(pack):
    mixed, error = pixart_clip(), pack("skrr_engine.errors").SkrrError
    mixed.patcher = steps.prune(pack, pixart_clip()).clip.patcher
    with pytest.raises(error, match="encodes with another encoder"):
        steps.plan_for(pack, mixed)


# --- the largest -------------------------------------------------------------------------------------------


def test_the_largest_is_never_a_smaller_one(pack):
    """Beside an encoder that cannot be cut and is larger than all others: refused, unless one is named."""
    trees, error = pack("nodes.comfy_host.clip.trees"), pack("skrr_engine.errors").SkrrError
    clip = copy.copy(unloaded(flux.flux_clip()))
    clip.patcher.model.llama = sd1_clip.SDClipModel(device="meta", model_options=SIZES)
    clip.patcher.model.llama.transformer = torch.nn.Linear(10, 10)
    assert trees.choose_encoder(clip).slot == "clip_l"
    clip.patcher.model.llama.transformer = torch.nn.Linear(10_000, 10_000, device="meta")
    with pytest.raises(error, match=r"largest encoder .* llama .a Linear, which .* by its name: clip_l, t5xxl"):
        trees.choose_encoder(clip)
    assert trees.choose_encoder(clip, "t5xxl").slot == "t5xxl"
    assert trees.largest_known(clip).slot == "clip_l"
