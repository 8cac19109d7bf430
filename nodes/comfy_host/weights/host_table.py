"""An embedding table that stays where it is stored: only the rows of a prompt go to the device.

A prompt looks up a few hundred of up to 262,000 rows. The lookup runs the very module that was there, on a table of
only those rows, so that what comes out is the same bit for bit in every format and release.
"""

import copy
import dataclasses

import torch
from torch.func import functional_call

from .weights import is_ggml, is_quantized

__all__ = ["HostTable", "has_rows", "rows_of"]


class HostTable(torch.nn.Module):
    """Stands in for an embedding module. `source` is held unregistered: ComfyUI neither moves nor counts it."""

    def __init__(self, source):
        super().__init__()
        source = copy.copy(source)
        source._parameters = dict(source._parameters)  # a lookup puts its rows there for a moment
        self._source = (source,)

    @property
    def source(self):
        """The module whose table this is."""
        return self._source[0]

    @property
    def weight(self):
        """The whole table; ComfyUI asks where it is and what type it has."""
        return self.source.weight

    def rows(self, ids: torch.Tensor):
        """The rows `ids`, of one dimension, as a table of their own, in the table's format."""
        return rows_of(self.weight, ids)

    def stored(self) -> dict[str, torch.Tensor]:
        """The whole table as a file holds it: name -> tensor."""
        whole = copy.copy(self.source)
        whole._parameters = dict(whole._parameters)
        rows = self.rows(torch.arange(self.weight.shape[0]))
        whole._parameters["weight"] = torch.nn.Parameter(rows, requires_grad=False)
        return dict(whole.state_dict())

    def forward(self, ids, *args, **kwargs):
        """As the module that was here."""
        rows = self.rows(ids.flatten().to(self.weight.device))
        places = torch.arange(ids.numel(), device=ids.device).reshape(ids.shape)
        weight = torch.nn.Parameter(rows, requires_grad=False)
        return functional_call(self.source, {"weight": weight}, (places, *args), kwargs)

    def __deepcopy__(self, memo):
        return type(self)(self.source)  # the storage is shared: nothing ever writes into it


def has_rows(weight) -> bool:
    """Whether single rows of a table in this format can be taken: not where scales stand in other orders."""
    if not is_quantized(weight):
        return torch.is_tensor(weight) and weight.dim() == 2
    params, rows = weight._params, weight.shape[0]
    tensors = [value for value in vars(params).values() if torch.is_tensor(value)]
    return weight._qdata.shape == weight.shape and all(t.numel() == 1 or t.shape[0] == rows for t in tensors)


def rows_of(weight, ids: torch.Tensor, data: torch.Tensor | None = None) -> torch.Tensor:
    """The rows `ids` of a table as a table of their own, in its format. `ids` has one dimension. `data`: those rows of
    what is stored, where they were read elsewhere."""
    if is_quantized(weight):
        rows, changed = weight.shape[0], {"orig_shape": (len(ids), weight.shape[1])}
        for name, value in vars(weight._params).items():
            if torch.is_tensor(value) and value.numel() > 1 and value.shape[0] == rows:
                changed[name] = value[ids]
        params = dataclasses.replace(weight._params, **changed)
        data = weight._qdata[ids] if data is None else data.to(weight._qdata.dtype)
        return type(weight)(data, weight._layout_cls, params)
    plain = weight.detach().as_subclass(torch.Tensor)[ids] if data is None else data.to(weight.dtype)
    if not is_ggml(weight):
        return plain
    taken = plain.as_subclass(type(weight))
    taken.__dict__.update({k: v for k, v in weight.__dict__.items() if k not in ("patches", "_is_param")})
    taken.tensor_shape, taken.patches = torch.Size((len(ids), weight.tensor_shape[1])), []
    return taken
