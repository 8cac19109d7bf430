"""The slow, obvious way to prune: ComfyUI's own forward written out over a private copy, with a plan in it."""

import copy

import torch


def t5_forward(transformer, ids, skip, reuse, dtype=torch.float32):
    """ComfyUI's T5 encoder over one row of ids, sub-block by sub-block: skipped ones left out, re-used ones taken
    from their source. Only the leaf modules are called, on the given (uncut, unloaded) transformer."""
    from comfy.ldm.modules.attention import optimized_attention_for_device

    embedding = transformer.get_input_embeddings()
    x = embedding(torch.tensor([ids]), out_dtype=torch.float32)
    blocks = transformer.encoder.block
    attend = optimized_attention_for_device(x.device, mask=False, small_input=True)
    bias = blocks[0].layer[0].SelfAttention.compute_bias(x.shape[1], x.shape[1], x.device, x.dtype)
    for i in range(2 * len(blocks)):
        if i in skip and i not in reuse:
            continue
        layer = blocks[reuse.get(i, i) // 2].layer[i % 2]
        if i % 2:
            x = x + layer.DenseReluDense(layer.layer_norm(x))
        else:
            own = blocks[1].layer[0].SelfAttention.relative_attention_bias is not None
            past = None if own else bias
            x = x + layer.SelfAttention(layer.layer_norm(x), past_bias=past, optimized_attention=attend)[0]
    return transformer.encoder.final_layer_norm(x)


def clip_forward(transformer, ids, skip, reuse, layer):
    """ComfyUI's CLIP over one row: (state after `layer` layers from the end without final norm, pooled,
    unprojected pooled)."""
    from comfy.ldm.modules.attention import optimized_attention_for_device

    text = transformer.text_model
    x = text.embeddings.token_embedding(torch.tensor([ids]), out_dtype=torch.float32)
    x = x + text.embeddings.position_embedding.weight.float()
    attend = optimized_attention_for_device(x.device, mask=True, small_input=True)
    mask = torch.full((x.shape[1], x.shape[1]), -torch.finfo(x.dtype).max).triu_(1)
    layers, read = text.encoder.layers, None
    for i in range(2 * len(layers)):
        if not (i in skip and i not in reuse):
            source = layers[reuse.get(i, i) // 2]
            if i % 2:
                x = x + source.mlp(source.layer_norm2(x))
            else:
                x = x + source.self_attn(source.layer_norm1(x), mask, attend)
        if i == 2 * (len(layers) - layer) + 1:
            read = x
    last = text.final_layer_norm(x)
    pooled = last[:, ids.index(49407)]
    return read, transformer.text_projection(pooled), pooled


def kept_bytes(tree, path, removed_prefixes):
    """Bytes of a tree's state dict without the keys below `path` + any of `removed_prefixes`."""
    gone = tuple(path + prefix for prefix in removed_prefixes)
    return sum(t.nbytes for key, t in tree.state_dict().items() if not key.startswith(gone))


def t5_prefixes(skip):
    """State-dict prefixes of T5 sub-blocks; the position table of layer 0 stays, so its parts are named."""
    prefixes = []
    for i in skip:
        layer = f"encoder.block.{i // 2}.layer.{i % 2}."
        prefixes += [layer] if i else [layer + "layer_norm.", *(f"{layer}SelfAttention.{n}." for n in "qkvo")]
    return prefixes


def clip_prefixes(skip):
    """State-dict prefixes of CLIP sub-blocks."""
    names = (("layer_norm1.", "self_attn."), ("layer_norm2.", "mlp."))
    return [f"text_model.encoder.layers.{i // 2}.{name}" for i in skip for name in names[i % 2]]


def llama_forward(transformer, ids, skip, reuse, mask=None, dtype=torch.float32):
    """ComfyUI's language model of the Llama kind over one row: the states in front of every layer and behind the last
    one, un-normed. A sub-block runs as ComfyUI's own layer whose other half does nothing, so windows, rotary tables and
    norms are that layer's; mask and tables are those that ComfyUI hands to its first layer."""
    core, handed = transformer.model, {}

    def listen(layer, arguments, options):
        handed.update(options)
        handed["x"] = options["x"].clone()

    embeds = core.embed_tokens(torch.tensor([ids]), out_dtype=dtype)
    with listening(core.layers[0], listen):
        transformer(None, mask, embeds=embeds, num_tokens=[len(ids)], dtype=dtype)
    x, states = handed.pop("x"), []
    for i in range(2 * len(core.layers)):
        if i % 2 == 0:
            states.append(x)
        if i in skip and i not in reuse:
            continue
        x = half_of(core.layers[reuse.get(i, i) // 2], i % 2)(x=x.clone(), **handed)[0]
    return [*states, x]


def listening(layer, listen):
    """The handle of a hook that hears what `layer` is called with, to be used in a `with`."""
    return layer.register_forward_pre_hook(listen, with_kwargs=True)


class Nothing(torch.nn.Module):
    """An attention or feed-forward that adds nothing."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, x=None, hidden_states=None, **further):
        """Zeros, as either of them hands them on."""
        zeros = torch.zeros_like(hidden_states if x is None else x)
        return (zeros, None) if self.attention else zeros


def half_of(layer, half):
    """A copy of `layer` of which only the attention (0) or the feed-forward (1) does anything."""
    layer = copy.deepcopy(layer)
    other = "self_attn" if half else "mlp"
    setattr(layer, other, Nothing(half == 1))
    gemma = hasattr(layer, "pre_feedforward_layernorm")
    if gemma:  # zero behind a norm is zero, but for the norm of nothing
        setattr(layer, "post_attention_layernorm" if half else "post_feedforward_layernorm", torch.nn.Identity())
    return layer
