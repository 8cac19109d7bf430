"""ComfyUI's language models of the Llama kind as a TextStack."""

import copy
from dataclasses import dataclass
from typing import Any

import torch

from ....skrr_engine.precision import narrow
from .running import EncoderStack

__all__ = ["LlamaStack"]


@dataclass(frozen=True)
class _Handed:
    """What ComfyUI hands to every layer: the mask, the rotary tables (one, or a global and a local one), and the
    attention to run."""

    mask: torch.Tensor | None
    turns: Any
    attend: Any


class _Listening(torch.nn.Module):
    """Stands in for all layers and keeps what is handed to the first of them."""

    def forward(self, x, attention_mask=None, freqs_cis=None, optimized_attention=None, past_key_value=None):
        self.heard = x, _Handed(attention_mask, freqs_cis, optimized_attention)
        return x, past_key_value


class LlamaStack(EncoderStack):
    """The walk of comfy's Llama2_, one sub-block at a time and never in place.

    Masks and rotary tables come from ComfyUI's own forward, run without its layers, so that positions, templates and
    releases count as they do there. The sequence is (rows, tokens, width), of several states joined side by side in
    ascending order.
    """

    def taps_of(self, count):
        layers, request = count // 2, self.layer
        if request is None:
            return {"last": count}
        if not isinstance(request, list | tuple | str):
            return {"read": 2 * (request % layers + 1)}
        behind = range(layers + 1) if request == "all" else {at % layers if at < 0 else at for at in request}
        return {f"read {at}": 2 * at for at in sorted(behind) if at <= layers}

    def blocks(self):
        for index in range(2 * self.architecture.layers):
            yield index, (self._attention, self._feed_forward)[index % 2]

    def post_norm(self, index):
        parts = self.encoder.adapter.parts(self.transformer, index)
        return parts[2] if self.architecture.post_norms else None

    def embed(self, batch):
        embeds, mask, num_tokens, info = self.sd_model.process_tokens(batch.tokens.tolist(), self.device)
        listening = _Listening()
        core = _like(self.transformer.model, layers=torch.nn.ModuleList([listening]))
        _like(self.transformer, model=core)(
            None,
            mask if self.sd_model.enable_attention_masks else None,
            embeds=embeds,
            num_tokens=num_tokens,
            intermediate_output=None,
            final_layer_norm_intermediate=False,
            dtype=torch.float32,
            embeds_info=info,
        )
        hidden, handed = listening.heard
        return hidden, (handed, mask, num_tokens)

    def _attention(self, index, hidden, handed):
        norm, body, *behind = self.encoder.adapter.parts(self.transformer, index)
        window = getattr(self.transformer.model.layers[index // 2], "sliding_attention", None)
        normed = narrow(norm(hidden), self.products)
        mask, turns = handed.mask, handed.turns
        if isinstance(turns, list):
            turns = turns[1 if window else 0]
            if window and hidden.shape[1] > window:
                mask = _near(hidden, window) if mask is None else mask + _near(hidden, window)
        mask = None if mask is None else mask.to(normed.dtype)
        found = body(normed, attention_mask=mask, freqs_cis=turns, optimized_attention=handed.attend)[0]
        return behind[0](found) if behind else found

    def _feed_forward(self, index, hidden, handed):
        norm, body, *behind = self.encoder.adapter.parts(self.transformer, index)
        found = body(narrow(norm(hidden), self.products))
        return behind[0](found) if behind else found

    def read_out(self, states, num_tokens):
        if self.layer is None:
            return self._normed(states["last"]), None
        again = self.sd_model.layer_norm_hidden_state
        count = len(self.subblocks)
        found = []
        for name, state in sorted(states.items(), key=lambda item: self.taps[item[0]]):
            # ComfyUI norms the state behind all layers where several are read, and all of them where it is set up so.
            last = name != "read" and self.taps[name] == count
            read = self._normed(state) if last else state
            found.append(self._normed(read) if again else read)
        return torch.cat(found, dim=-1), None

    def _normed(self, state):
        norm = self.transformer.model.norm
        return state if norm is None else norm(state)


def _near(hidden, window: int) -> torch.Tensor:
    """What keeps a token from seeing those that are `window` or more before it."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    far = places[:, None] - places[None, :] >= window
    mask = torch.zeros(far.shape, dtype=hidden.dtype, device=hidden.device)
    return mask.masked_fill(far, torch.finfo(hidden.dtype).min)


def _like(module, **changed):
    """`module` over the same parts, but for those in `changed`; itself it stays as it is."""
    shell = copy.copy(module)
    shell._modules = {**module._modules, **changed}
    return shell
