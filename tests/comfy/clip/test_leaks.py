"""Whatever of a CLIP is bound to the dense encoder: never the dense output behind a report of savings."""

import functools
import operator
import types
import weakref
from types import SimpleNamespace

import pytest
import torch

from .. import steps
from ..tiny_models import flux_clip


def bound_partial(clip, inner):
    clip.patcher.add_object_patch(
        "t5xxl.encode_token_weights", functools.partial(type(inner).encode_token_weights, inner)
    )


def bound_method(clip, inner):
    clip.patcher.add_object_patch("t5xxl.encode_token_weights", inner.encode_token_weights)


def closure(clip, inner):
    clip.patcher.add_object_patch("t5xxl.encode_token_weights", lambda tokens: inner.encode_token_weights(tokens))


def callable_object(clip, inner):
    class Runs:
        def __init__(self, module):
            self.module = module

        def __call__(self, tokens):
            return self.module.encode_token_weights(tokens)

    clip.patcher.add_object_patch("t5xxl.encode_token_weights", Runs(inner))


def attribute_of_the_clip(clip, inner):
    clip.own_encoder = inner


def option_of_the_patcher(clip, inner):
    clip.patcher.model_options["run_first"] = [inner.encode_token_weights]


def patch(clip, function):
    clip.patcher.add_object_patch("t5xxl.encode_token_weights", function)


def method_of_a_holder(clip, inner):
    """As most packs do it: an object that holds the module and is not callable itself."""

    class Holder:
        def __init__(self, module):
            self.module = module

        def run(self, tokens):
            return self.module.encode_token_weights(tokens)

    patch(clip, Holder(inner).run)


def object_with_slots(clip, inner):
    class Runs:
        __slots__ = ("module",)

        def __call__(self, tokens):
            return self.module.encode_token_weights(tokens)

    runs = Runs()
    runs.module = inner
    patch(clip, runs)


def method_that_closes_over(clip, inner):
    """The object holds nothing; its class' method does."""

    class Runs:
        def __call__(self, tokens):
            return inner.encode_token_weights(tokens)

    patch(clip, Runs())


def module_around_it(clip, inner):
    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def encode_token_weights(self, tokens):
            return self.inner.encode_token_weights(tokens)

    clip.patcher.add_object_patch("t5xxl", Around())


def wrapped(clip, inner):
    @functools.wraps(inner.encode_token_weights)
    def runs(tokens):
        return runs.__wrapped__(tokens)

    patch(clip, runs)


def cached(clip, inner):
    patch(clip, functools.cache(inner.encode_token_weights))


def weak_reference(clip, inner):
    reference = weakref.ref(inner)
    patch(clip, lambda tokens: reference().encode_token_weights(tokens))


def found_by_a_key(clip, inner):
    modules = {inner: 1.0}
    patch(clip, lambda tokens: next(iter(modules)).encode_token_weights(tokens))


def weight_wrapper(clip, inner):
    clip.patcher.add_weight_wrapper(
        "t5xxl.transformer.shared.weight", lambda weight: inner.transformer.shared.weight.to(weight)
    )


def callback_on_load(clip, inner):
    clip.patcher.add_callback("on_load", SimpleNamespace(of=inner, run=print).__getattribute__)


def attachment(clip, inner):
    clip.patcher.set_attachments("other pack", SimpleNamespace(encoder=inner))


def additional_model(clip, inner):
    clip.patcher.set_additional_models("other pack", [clip.patcher.clone()])


def replaced_method(clip, inner):
    inner.encode_token_weights = lambda tokens: type(inner).encode_token_weights(inner, tokens)


def forward_hook(clip, inner):
    inner.transformer.register_forward_hook(lambda module, arguments, result: inner.transformer(*arguments))


def default(clip, inner):
    patch(clip, lambda tokens, inner=inner: inner.encode_token_weights(tokens))


def default_by_keyword(clip, inner):
    def runs(tokens, *, inside=(inner,)):
        return inside[0].encode_token_weights(tokens)

    patch(clip, runs)


def attribute_of_a_function(clip, inner):
    def runs(tokens):
        return runs.module.encode_token_weights(tokens)

    runs.module = inner
    patch(clip, runs)


def partial_of_a_partial_of_a_closure(clip, inner):
    def runs(module, tokens):
        return inner.encode_token_weights(tokens)

    patch(clip, functools.partial(functools.partial(runs, None)))


def partial_method(clip, inner):
    class Runs:
        run = functools.partialmethod(lambda self, module, tokens: module.encode_token_weights(tokens), inner)

    patch(clip, Runs().run)


def wrapped_twice(clip, inner):
    def plain(tokens):
        return tokens

    outer = functools.wraps(functools.wraps(inner.encode_token_weights)(plain))(lambda tokens: tokens)
    patch(clip, outer)


def property_that_deletes(clip, inner):
    class Runs:
        def __call__(self, tokens):
            return tokens

        module = property(None, None, lambda self: inner)

    patch(clip, Runs())


def method_caller(clip, inner):
    call = operator.methodcaller("encode_token_weights_of", inner)
    patch(clip, lambda tokens: call(tokens))


HELD = {}


def global_name(clip, inner):
    """Its own name for the module, in the module of the pack that made the function."""
    HELD["run"], HELD["inner"] = types.FunctionType(RUNS.__code__, HELD), inner
    patch(clip, HELD["run"])


def global_name_of_a_method(clip, inner):
    HELD["run"], HELD["inner"] = types.FunctionType(RUNS.__code__, HELD), inner.encode_token_weights
    patch(clip, HELD["run"])


def global_name_inside_a_function(clip, inner):
    HELD["run"], HELD["inner"] = types.FunctionType(NESTED.__code__, HELD), inner
    patch(clip, HELD["run"])


def RUNS(tokens):
    return inner(tokens)  # noqa: F821


def NESTED(tokens):
    return [(lambda token: inner(token))(token) for token in tokens]  # noqa: F821


def generator(clip, inner):
    def steps(module):
        while True:
            yield module

    started = steps(inner)
    next(started)
    patch(clip, lambda tokens: next(started).encode_token_weights(tokens))


BOUND = [
    *(default, default_by_keyword, attribute_of_a_function, partial_of_a_partial_of_a_closure, partial_method),
    *(wrapped_twice, property_that_deletes, method_caller, generator),
    *(global_name, global_name_of_a_method, global_name_inside_a_function),
    *(bound_partial, bound_method, closure, callable_object, attribute_of_the_clip, option_of_the_patcher),
    *(method_of_a_holder, object_with_slots, method_that_closes_over, module_around_it, wrapped, cached),
    *(weak_reference, found_by_a_key, weight_wrapper, callback_on_load, attachment, additional_model),
    *(replaced_method, forward_hook),
]


@pytest.mark.parametrize("bind", BOUND)
def test_a_reference_into_the_dense_tree_is_refused(pack, bind):
    clip = flux_clip()
    bind(clip, clip.patcher.model.t5xxl)
    error = pack("skrr_engine.errors").SkrrError
    with pytest.raises(error, match=r"bound to the dense encoder.*Put Skrr Apply before"):
        steps.prune(pack, clip)


def test_a_patch_of_its_own_is_kept(pack):
    """A patch that holds no module goes along, and the pruned CLIP runs it."""
    clip, calls = flux_clip(), []
    original = type(clip.patcher.model.t5xxl).encode_token_weights

    def counted(module, tokens):
        calls.append(module)
        return original(module, tokens)

    clip.patcher.add_object_patch("t5xxl.counted", counted)
    pruned = steps.prune(pack, clip)
    assert pruned.clip.patcher.object_patches["t5xxl.counted"] is counted


def test_a_method_bound_on_an_inner_module_goes_along(pack):
    """Bound to a module, not hidden in a closure: the clone's is bound to the clone."""
    clip = flux_clip()
    inner = clip.patcher.model.t5xxl
    inner.kept = inner.encode_token_weights
    pruned = steps.prune(pack, clip).clip.patcher.model.t5xxl
    assert pruned.kept.__self__ is pruned


def test_what_reaches_no_dense_module_is_kept(pack):
    """Objects, modules and callbacks of other packs that stand by themselves."""
    clip = flux_clip()
    clip.patcher.set_attachments("other pack", SimpleNamespace(module=torch.nn.Linear(2, 2), names=["t5xxl"]))
    clip.patcher.add_callback("on_load", functools.partial(print, "loaded"))
    clip.patcher.model_options["other pack"] = {"weights": clip.patcher.model.t5xxl.transformer.shared.weight}
    pruned = steps.prune(pack, clip).clip
    assert pruned.patcher.get_attachment("other pack") is clip.patcher.get_attachment("other pack")
    assert "other pack" in pruned.patcher.model_options


def test_a_global_name_that_leads_elsewhere_is_no_leak(pack):
    """A pack's own cache of what it has loaded is not what its function runs; nor is a module of its own."""
    clip = flux_clip()
    names = {"inner": torch.nn.Linear(2, 2), "CACHE": {"clip": clip, "last": clip.patcher.model}}
    clip.patcher.add_object_patch("t5xxl.counted", types.FunctionType(RUNS.__code__, names))
    assert steps.prune(pack, clip).clip.patcher.object_patches["t5xxl.counted"].__globals__ is names
