"""The steps of a workflow as functions: prune, encode, load a LoRA; and the same LoRA put into weights by hand."""

import functools
import re

import torch
import transformers

from .oracle import t5_forward
from .tiny_models import pixart_clip

TEXT = "a red fox reading a map beside two blue lanterns"
OTHER_TEXT = "rain on a tin roof"
# A cut with everything in it: the owner of T5's position table skipped, a source left and right, a plain skip.
SKIP, REUSE = (0, 5, 3), {0: 2, 5: 7}
STRENGTH = 0.75
LORA_MATRICES = ("lora_up.weight", "lora_down.weight")


def read_tokenizers_once():
    """ComfyUI reads a tokenizer's files for every CLIP, which is most of what a tiny CLIP takes to make. They are
    only read from, so the tests of a session can have one of each kind."""
    base = transformers.PreTrainedTokenizerBase
    read = functools.cache(base.from_pretrained.__func__)
    base.from_pretrained = classmethod(lambda cls, path, *rest, **options: read(cls, path, *rest, **options))


read_tokenizers_once()


def plan_for(pack, clip, skip=SKIP, reuse=None, slot="t5xxl"):
    """A plan of one level for `clip`."""
    plan, trees = pack("skrr_engine.plans.plan"), pack("nodes.comfy_host.clip.trees")
    info = plan.EncoderInfo(trees.choose_encoder(clip, slot).architecture)
    level = plan.make_level({slot: info}, {slot: plan.make_cut(skip, reuse or {})})
    return plan.Plan("test", {slot: info}, (level,))


def prune(pack, clip, skip=SKIP, reuse=None, slot="t5xxl"):
    """Patched: what SkrrApply makes of `clip`."""
    plan = plan_for(pack, clip, skip, reuse, slot)
    return pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, plan.levels[0])


def without_free(pack, clip, plan=None, in_ram=(), corrections=None, **keep):
    """Patched: `clip` without its free parts and with the cuts of `plan`, as Skrr CLIP Loader gives it. The tables of
    the encoders `in_ram` are not left where they are stored."""
    free = pack("nodes.comfy_host.clip.free").find_free(clip, tables=True, **keep)
    free = tuple(part for part in free if part.kind != "table" or part.slot not in in_ram)
    level = None if plan is None else plan.levels[0]
    return pack("nodes.comfy_host.clip.patching").make_smaller(clip, plan, level, free, corrections or {})


def encode(clip, text=TEXT):
    """The conditioning, loaded and run as CLIPTextEncode does."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0].clone()


def token_ids(clip, text=TEXT):
    """The ids of the first row of a CLIP's only (or T5) tokenizer."""
    tokens = clip.tokenize(text)
    rows = tokens if isinstance(tokens, list) else tokens.get("t5xxl", tokens.get("l"))
    return [token for token, _ in rows[0]]


def place_of(key):
    """The sub-block that a state-dict key belongs to, or None."""
    if match := re.search(r"encoder\.block\.(\d+)\.layer\.([01])\.", key):
        return None if "relative_attention_bias" in key else 2 * int(match[1]) + int(match[2])
    if match := re.search(r"encoder\.layers\.(\d+)\.(self_attn|layer_norm1|mlp|layer_norm2)\.", key):
        return 2 * int(match[1]) + (match[2] in ("mlp", "layer_norm2"))
    return None


def matrices(tree, places):
    """Keys of the weight matrices of sub-blocks."""
    modules = dict(tree.named_modules())
    return [
        f"{path}.weight"
        for path, module in modules.items()
        if place_of(f"{path}.weight") in places and len(getattr(getattr(module, "weight", None), "shape", ())) == 2
    ]


def make_lora(clip, places, seed=0, rank=2):
    """A LoRA file's content, as trainers name it, over all matrices of `places` of a CLIP with one encoder."""
    lora = {}
    for n, key in enumerate(matrices(clip.patcher.model, places)):
        generator = torch.Generator().manual_seed(1000 * seed + n)
        name = lora_name(key)
        rows, columns = weight_of(clip.patcher.model, key).shape
        for part, shape in zip(LORA_MATRICES, ((rows, rank), (rank, columns)), strict=True):
            lora[f"{name}.{part}"] = 0.3 * torch.randn(shape, generator=generator)
        lora[f"{name}.alpha"] = torch.tensor(1.5 * rank)
    return lora


def lora_name(key):
    """clip_l.transformer.text_model.….weight -> lora_te1_text_model_…"""
    stem = key.partition(".transformer.")[2].removesuffix(".weight")
    return "lora_te1_" + stem.replace(".", "_")


def weight_of(tree, key):
    """The parameter behind a state-dict key."""
    import comfy.utils

    return comfy.utils.get_attr(tree, key)


def with_lora(clip, lora, strength=STRENGTH):
    """What LoraLoader hands on."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(None, clip, lora, 0, strength)[1]


def hook(lora, *strengths, strength=STRENGTH):
    """CreateHookLora, with a keyframe for each of `strengths`, evenly over the sampling steps."""
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(lora, 0, strength)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for n, value in enumerate(strengths):
        keyframes.add(comfy.hooks.HookKeyframe(value, start_percent=n / len(strengths)))
    if strengths:
        hooks.set_keyframes_on_hooks(keyframes)
    return hooks


def with_hooks(clip, hooks, schedule=False):
    """The node SetClipHooks."""
    from comfy_extras.nodes_hooks import SetClipHooks

    return SetClipHooks().apply_hooks(clip, schedule, True, hooks)[0]


def walk(pack, clip, skip=(), reuse=None, slot="t5xxl", text=TEXT):
    """What the search computes for an assignment: {"sequence": …, "pooled": …}, each if it is read."""
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    stack = encoder.adapter.stack(encoder)
    stack.prepare()
    rows = clip.tokenize(text)[slot.removeprefix("clip_")]
    tokens = torch.tensor([[token for token, _ in row] for row in rows])
    batch = pack("skrr_engine.encoders.stack").TokenBatch(tokens, tuple(range(len(rows))), tokens.shape[1], {})
    run = pack("skrr_engine.measure.execute")
    return run.encode(stack, run.assign(len(stack.subblocks), skip, reuse), batch)


def edit(clip, *loras, strength=STRENGTH, rounded=True):
    """Puts LoRAs into the weights of a private CLIP, with the arithmetic of LoRA, W + Σ s·(alpha/rank)·up·down,
    rounded once (weights patched while loaded) or not at all (weights patched at each use)."""
    tree = clip.patcher.model
    for key in matrices(tree, range(1000)):
        parameter = weight_of(tree, key)
        value = parameter.data.float()
        for lora in loras:
            if f"{lora_name(key)}.alpha" in lora:
                up, down, alpha = (lora[f"{lora_name(key)}.{part}"] for part in (*LORA_MATRICES, "alpha"))
                value = value + strength * (alpha.item() / down.shape[0]) * (up @ down)
        parameter.data = value.to(parameter.dtype) if rounded else value
    return clip


def by_hand(clip, skip=SKIP, reuse=REUSE, text=TEXT):
    """The pruned conditioning of a private, unloaded dense T5 CLIP, by the computation written out."""
    transformer = next(m for m in clip.patcher.model.modules() if type(m).__name__ == "T5")
    return t5_forward(transformer, token_ids(clip, text), skip, reuse)


def wanted(*loras, skip=SKIP, reuse=REUSE, **options):
    """What `pixart_clip()` with `loras` (see `edit` for options) must give when pruned, by hand."""
    if loras:
        return by_hand(edit(pixart_clip(), *loras, **options), skip, reuse)
    return _wanted(tuple(skip), tuple(sorted(reuse.items())))


@functools.cache
def _wanted(skip, reuse):
    return by_hand(pixart_clip(), skip, dict(reuse))


def dense_wanted(*loras, **options):
    """What `pixart_clip()` with `loras` must give when nothing is pruned, by hand."""
    return wanted(*loras, skip=(), reuse={}, **options)


def while_loaded(clip, skip=SKIP, reuse=REUSE, text=TEXT):
    """The pruned conditioning, by hand, from a dense T5 CLIP as ComfyUI has it loaded: in any storage format, with
    LoRA baked into its weights or hung on its modules."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([clip.patcher])
    return by_hand(clip, skip, reuse, text)
