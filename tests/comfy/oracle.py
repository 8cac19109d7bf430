"""The slow, obvious way to prune: ComfyUI's own forward written out over a private copy, with a plan in it."""

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
