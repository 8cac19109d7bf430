"""The same encoder with other weights, as LaCo and magnitude pruning make them: a state dict -> a TextStack."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..encoders.clip import ClipStack
from ..encoders.stack import TextStack
from ..encoders.t5 import T5Stack
from ..errors import SkrrError
from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment, encode
from ..measure.objective import Objective, Tally

__all__ = ["measure_rebuilt", "rebuild", "state_of"]

# One tensor under two names in T5: a file may have either.
EMBEDDINGS = {"shared.weight", "encoder.embed_tokens.weight"}


def state_of(stack: TextStack) -> dict[str, torch.Tensor]:
    """The encoder's tensors, in the names of its transformers model; not copied. Raises SkrrError for a stack that
    is not a dense T5Stack or ClipStack."""
    if not isinstance(stack, T5Stack | ClipStack):
        raise SkrrError(
            f"A {type(stack).__name__} cannot be rebuilt with other weights. Open the encoder with the engine "
            "(opening.open_encoder), which knows T5, umT5 and CLIP."
        )
    state = stack.model.state_dict()
    missing = [name for name, tensor in state.items() if tensor.is_meta]
    if missing:
        raise SkrrError(
            f"The encoder has no {missing[0]} ({len(missing)} tensors are missing): it is pruned already. Open the "
            "dense encoder."
        )
    return state


def rebuild(stack: TextStack, state: Mapping[str, torch.Tensor]) -> TextStack:
    """A stack of the same kind that runs the tensors of `state` (names as in `state_of`). Nothing is copied, and
    `stack` stays as it is. Sizes in bytes are those of `stack`: a weight that is zero takes as much room."""
    state_of(stack)
    memo = {id(tensor): tensor for tensor in (*stack.model.parameters(), *stack.model.buffers())}
    model = copy.deepcopy(stack.model, memo)
    wrong = model.load_state_dict(dict(state), strict=False, assign=True)
    if wrong.unexpected_keys or set(wrong.missing_keys) - EMBEDDINGS or EMBEDDINGS <= set(wrong.missing_keys):
        raise SkrrError(
            f"These tensors are not those of a {stack.architecture.describe()}: missing "
            f"{wrong.missing_keys[:3]}, unknown {wrong.unexpected_keys[:3]}. Give them under the names of its model."
        )
    if "shared.weight" in wrong.missing_keys:
        model.set_input_embeddings(model.encoder.embed_tokens)
    model.tie_weights()
    if isinstance(stack, T5Stack):
        other = T5Stack(model)
    else:
        layer = (stack.taps["last"] - stack.taps["read"]) // 2 + 1
        other = ClipStack(model, layer, stack.final_norm)
    pairs = zip(other.subblocks, stack.subblocks, strict=True)
    other.subblocks = tuple(replace(new, bytes=old.bytes) for new, old in pairs)
    other.total_bytes = stack.total_bytes
    return other


def measure_rebuilt(objective: Objective, stack: TextStack, assignment: Assignment | None = None) -> Discrepancy:
    """The discrepancy of `stack` under `assignment` (None: every sub-block in its place) from the *dense* encoder
    of `objective`."""
    stack.prepare()
    tally = Tally(objective)
    for batch in objective.batches:
        tally.add(batch, encode(stack, assignment or objective.dense_assignment, batch, objective.report))
    return tally.total()
