"""A card that nobody has: tensors that say they lie on it and compute on the CPU.

What meets across devices is an error, as on a card; so is numpy of what lies there.  Values are
real, so that a whole cell can run and be compared with the CPU to the bit, and every wait for the
card (`item`, `bool`, `tolist`, a copy to the CPU, shapes that depend on values) is counted.

Tensors made by the autograd engine or by torch.func come back untagged and are tagged from what
went in; training on the card is not pretended.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
WAITS = {
    "item",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "tolist",
    "nonzero",
    "unique",
    "masked_select",
    "equal",
}
READS = {"numpy", "__array__"}
MOVES = {"to", "cpu", "cuda"}
COPIES = {"copy_", "_has_compatible_shallow_copy_type"}
INDEXES = {"__getitem__", "__setitem__", "index_put_"}
"""What takes tensors from elsewhere: copies, and indices on the CPU."""


def place_of(tensor: Tensor) -> torch.device:
    return CARD if vars(tensor).get("pretended") else CPU


def tagged(out, device):
    for leaf in tree_leaves(list(out) if isinstance(out, tuple) else out):
        if isinstance(leaf, Tensor):
            leaf.pretended = device.type == "cuda"
    return out


class PretendCuda(TorchFunctionMode):
    """Inside, `cuda` is a device; `waits` counts who waited for it, by function."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.waits = Counter()
        for name, value in {"device_count": lambda: 1, "is_available": lambda: False}.items():
            monkeypatch.setattr(torch.cuda, name, value)
        # Both go past torch's function modes.
        monkeypatch.setattr(torch.func, "jvp", keeping(torch.func.jvp))
        apply = torch.autograd.Function.__dict__["apply"]
        kept = classmethod(lambda cls, *args: keeping(apply.__get__(None, cls))(*args))
        monkeypatch.setattr(torch.autograd.Function, "apply", kept)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), func.__name__
        if name == "__get__" and func.__self__ is Tensor.device:
            return place_of(args[0])
        if name == "__set__" and func.__self__ is Tensor.data:
            func(*args)
            tagged(args[0], place_of(args[1]))
            return None
        if name in MOVES:
            return self.moved(func, name, args, kwargs)
        device = self.common(name, args, kwargs)
        if device == CARD:
            self.wait(name, args)
        if kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            if device.type == "cuda" and kwargs.get("generator") is not None:
                raise RuntimeError(f"{name}: a generator of the CPU for a tensor on the card")
            kwargs["device"] = CPU
        before = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **kwargs)
        for leaf in tree_leaves(list(out) if isinstance(out, tuple) else out):
            if isinstance(leaf, Tensor) and id(leaf) not in before:
                tagged(leaf, device)
        return out

    def moved(self, func, name, args, kwargs):
        x, wish, dtype = args[0], {"cpu": CPU, "cuda": CARD}.get(name), None
        for value in (*args[1:], *kwargs.values()):
            if isinstance(value, Tensor):
                wish, dtype = place_of(value), value.dtype
            elif isinstance(value, (str, torch.device)):
                wish = torch.device(value)
            elif isinstance(value, torch.dtype):
                dtype = value
        wish = place_of(x) if wish is None else wish
        if place_of(x) == CARD and wish == CPU:
            self.waits["to cpu"] += 1
        out = x if dtype is None else x.to(dtype)
        if out is x and wish.type == place_of(x).type:
            return x
        return tagged(out.view_as(out) if out is x else out, wish)

    def common(self, name, args, kwargs):
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        known = [v for v in tensors if not wrapped(v)]
        if not any(place_of(v) == CARD for v in known):
            return CPU
        apart = [v for v in known if place_of(v) == CPU and v.dim() > 0]
        if name in COPIES or (name in INDEXES and place_of(args[0]) == CARD):
            return place_of(args[0])
        if apart:
            self.refuse(name, apart)
        return CARD

    def refuse(self, name, apart):
        shapes = [tuple(v.shape) for v in apart]
        raise RuntimeError(f"{name}: tensors on the card meet tensors {shapes} on the CPU")

    def wait(self, name, args):
        if name in READS:
            raise TypeError("can't convert a tensor on the card to numpy")
        index = args[1:2] if name in ("__getitem__", "__setitem__") else ()
        masks = [v for v in tree_leaves(index) if isinstance(v, Tensor) and v.dtype == torch.bool]
        if name in WAITS or masks:
            self.waits[name] += 1


def keeping(fn):
    """`fn`, whose new tensors lie where a tensor among its arguments does."""

    def kept(*args, **kwargs):
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        out = fn(*args, **kwargs)
        card = any(place_of(v) == CARD for v in given)
        return tagged(out, CARD) if card else out

    return kept
