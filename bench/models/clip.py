"""CLIP models of open_clip with weights from a local file, frozen, prompt features cached.

Files under the names of open_clip and under those of transformers are both read; the latter are
renamed, tensor by tensor, and everything has to fit.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from bench.core.devices import wide
from bench.core.params import UserError, nearest
from bench.models import activations, external
from bench.models.activations import Asked
from bench.models.clip_transforms import Transform, beside, transform_of
from bench.models.preprocess import Fit, Preprocess

Precision = Literal["float32", "bfloat16"]

BODIES = ("transformer", "trunk", "layer1", "layer2", "layer3", "layer4")
"""The layers of a tower by their names in open_clip; they hold nearly all of its work."""


class ClipModel:
    """A frozen CLIP: pictures and prompts to unit vectors.

    A precision below float32 is that of the layers of both towers; embeddings, the last norm, the
    projection, normalisation and the logit scale are in float32 whatever it is.
    """

    def __init__(
        self, net: nn.Module, name: str, fit: Fit | None = None, how: Transform | None = None
    ) -> None:
        self.net, self.name = net.requires_grad_(False).eval(), name
        self.narrow = any(p.dtype.itemsize < 4 for p in net.parameters())
        size, known = cast(Any, net).visual.image_size, how or Transform()
        self.preprocess = Preprocess(
            size[0] if isinstance(size, tuple | list) else size,
            fit or known.fit,
            known.mean,
            known.std,
            known.interpolation,
        )
        self._prompts: dict[str, Tensor] = {}

    @property
    def logit_scale(self) -> float:
        """exp of the learnt temperature."""
        return float(cast(Any, self.net).logit_scale.detach().double().exp())

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes in and comes out; the layers between may be narrower."""
        return cast(torch.dtype, cast(Any, self.net).logit_scale.dtype)

    def image(self, unit: Tensor) -> Tensor:
        """Unit vectors (n, d), float32, of RGB pictures in [0, 1]."""
        net: Any = self.net
        inputs = self.preprocess(unit).to(self.dtype)
        with _plain_attention(self.narrow):
            return _unit_vectors(net.encode_image(inputs))

    def text(self, prompt: str) -> Tensor:
        """The unit vector (d,), float32, of a prompt; computed once, so no call's price."""
        if prompt not in self._prompts:
            with torch.no_grad(), wide(), _disable_current_modes(), _plain_attention(self.narrow):
                net: Any = self.net
                ids = tokenizer(self.name)([prompt]).to(next(self.net.parameters()).device)
                self._prompts[prompt] = _unit_vectors(net.encode_text(ids))[0]
        return self._prompts[prompt]

    def to(self, device: torch.device) -> ClipModel:
        """The model on the device of the pictures."""
        if next(self.net.parameters()).device != device:
            self.net.to(device)
            self._prompts = {k: v.to(device) for k, v in self._prompts.items()}
        return self


def _unit_vectors(features: Tensor) -> Tensor:
    wide = torch.promote_types(features.dtype, torch.float32)
    return nn.functional.normalize(features.to(wide), dim=-1)


@contextmanager
def _plain_attention(narrow: bool) -> Iterator[None]:
    """Do without torch's inference-only kernels where they count no FLOPs or sum too narrowly.

    They count as zero, and in bfloat16 their softmax is one of bfloat16.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    counting = torch._C._len_torch_dispatch_stack() > 0  # no public query exists
    torch.backends.mha.set_fastpath_enabled(before and not counting and not narrow)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def open_clip() -> Any:
    """The package, or a UserError that says how to get it."""
    try:
        import open_clip
    except ImportError as error:
        raise UserError(
            "CLIP rewards need open_clip: pip install 'tiltbench[images]' (about 1 GB)"
        ) from error
    return open_clip


@cache
def tokenizer(name: str) -> Any:
    """The tokenizer of a model; its vocabulary comes with open_clip."""
    return open_clip().get_tokenizer(name)


def tokens_cut(name: str, prompt: str) -> int:
    """How many tokens of a prompt are beyond what the text tower of a model reads."""
    found = tokenizer(name)
    if hasattr(found, "encode"):  # open_clip's own; the others wrap those of transformers
        length = len(found.encode(prompt)) + 2  # the marks of start and end
    else:
        cleaned = getattr(found, "clean_fn", str)(prompt)
        length = len(found.tokenizer(cleaned, truncation=False)["input_ids"])
    return max(0, length - int(found.context_length))


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns that the network is random; it is about to be filled."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def make_clip(name: str, device: str = "cpu") -> nn.Module:
    """The architecture `name` of open_clip with random weights (none on the device "meta")."""
    clip = open_clip()
    if name not in clip.list_models():
        raise UserError(f"open_clip has no model '{name}': {nearest(name, clip.list_models())}")
    with _quiet():
        return cast(nn.Module, clip.create_model(name, device=device, load_weights=False))


def load_clip(
    name: str,
    path: Path,
    precision: Precision = "float32",
    fit: Fit | None = None,
    activation: Asked = "",
) -> Any:
    """The model with the weights of a file, made once per file, precision and fit.

    Warns where the weights may be for the other activation and `activation` does not say, and
    where they may read pictures in another way and `fit` does not say.
    """
    stat = path.stat()
    version = (stat.st_size, stat.st_mtime_ns, *beside(path).items())
    return _load(name, path, version, precision, fit, activation)


@cache
def _load(
    name: str,
    path: Path,
    _version: tuple[Any, ...],
    precision: Precision,
    fit: Fit | None,
    activation: Asked,
) -> ClipModel:
    net = make_clip(name)
    doubt = doubts(name, path, activation, fit)
    if doubt:
        warnings.warn(doubt, stacklevel=2)
    state = external.read_state(path)
    external.load_strictly(net, as_open_clip(state), path)
    how, _ = transform_of(name, path, open_clip())
    return ClipModel(narrowed(net, getattr(torch, precision), name), name, fit, how)


def doubts(name: str, path: Path, activation: Asked = "", fit: Fit | None = None) -> str:
    """What may be wrong with the weights of a file although they fit, or "".

    Whoever names a `fit` knows how pictures are prepared.  Raises UserError for what is certainly
    wrong.
    """
    clip = open_clip()
    shown = "" if fit else transform_of(name, path, clip)[1]
    return "; ".join(filter(None, (activations.check(name, path, clip, activation), shown)))


def narrowed(net: nn.Module, dtype: torch.dtype, name: str) -> nn.Module:
    """The net in `dtype`; where that is narrower than float32, its bodies alone.

    Raises UserError for an architecture whose bodies are not known.
    """
    if dtype.itemsize >= 4:
        return net.to(dtype)
    owner = cast(Any, net)
    towers = (owner.visual, getattr(owner, "text", net))
    bodies = [[getattr(t, n) for n in BODIES if hasattr(t, n)] for t in towers]
    if not all(bodies):
        raise UserError(f"{name} can only run in float32: leave precision out")
    for body in (one for tower in bodies for one in tower):
        body.to(dtype)
        body.register_forward_pre_hook(lambda _, given: tuple(_cast(x, dtype) for x in given))
        body.register_forward_hook(lambda _, __, out: _cast(out, torch.float32))
    return net


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """A tensor of real numbers in `dtype`; anything else as it is."""
    real = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if real else value


# -- names of transformers ------------------------------------------------------------------------

_PLAIN = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "text_model.final_layer_norm": "ln_final",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}
_TRANSPOSED = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TOWER = {"text_model": "transformer", "vision_model": "visual.transformer"}


def as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under open_clip's names; one that has them already is returned as it is.

    transformers keeps query, key and value apart, open_clip stacks them in this order; its
    projections are linear layers, those of open_clip multiply from the right.
    """
    if "vision_model.embeddings.class_embedding" not in state:
        return state
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("embeddings.position_ids"):
            continue  # 0, 1, 2, ...: written by older versions
        if name in _TRANSPOSED:
            out[_TRANSPOSED[name]] = value.T.contiguous()
        elif ".self_attn.q_proj." in name:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            out[_renamed(name.replace("self_attn.q_proj.", "attn.in_proj_"))] = torch.cat(parts)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            out[_renamed(name)] = value
    return out


def _renamed(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if name in _PLAIN:
        return _PLAIN[name]
    if stem in _NORMS:
        return f"{_NORMS[stem]}.{kind}"
    layer = re.fullmatch(r"(\w+)\.encoder\.layers\.(\d+)\.(.+)", name)
    if layer is None:
        return name  # strict loading will refuse it by its name
    tower, index, rest = layer.groups()
    for old, new in _LAYER.items():
        rest = rest.replace(old, new)
    return f"{_TOWER[tower]}.resblocks.{index}.{rest}"
