"""ImageReward: human preference from BLIP, without its own package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.api import Accuracy, Condition, UserError, param
from bench.models import external
from bench.models.blip import BlipConfig, BlipScore
from bench.models.clip import Precision
from bench.models.preprocess import Preprocess
from rewards import accuracies
from rewards.pictures import PromptedParams, PromptedReward, Scale

LONGEST_PROMPT = 35
"""Tokens that ImageReward reads, the first and the last included."""


@dataclass(frozen=True)
class ImageRewardParams(PromptedParams):
    """The weights, the vocabulary and a precision."""

    weights: str = param(
        "", tunable=False, help="path of the weights; default: the prefetched ones"
    )
    vocabulary: str = param("", tunable=False, help="path of BERT's vocab.txt; default: prefetched")
    precision: Precision = param(
        "float32", tunable=False, help="of the network; scores are float32"
    )


class ImageReward(PromptedReward[ImageRewardParams]):
    """ImageReward v1.0: preference learnt from ranked pictures, in a BLIP (arXiv 2304.05977).

    r(x) = (h(x, prompt) - m) / s with the published mean and standard deviation of the raw score,
    so about 0 on average and typically -2 to 2.  x is (n, 3, height, width); the shortest side
    becomes 224 (bicubic), the middle is kept, and 35 tokens of the prompt are read.
    """

    Params = ImageRewardParams
    version = "2"
    learned = True
    config: ClassVar[BlipConfig] = BlipConfig()
    scales: ClassVar[dict[str, Scale]] = {"": Scale("standardised score", -2, 2)}

    def external(self) -> tuple[str, ...]:
        return ("image-reward", "bert-vocabulary")

    def accuracies(self) -> tuple[Accuracy, ...]:
        return accuracies.IMAGEREWARD

    @cached_property
    def paths(self) -> tuple[Path, Path]:
        """The weights and the vocabulary."""
        given = (self.params.weights, self.params.vocabulary)
        pairs = zip(self.external(), given, strict=True)
        weights, vocabulary = (external.locate(*pair) for pair in pairs)
        return weights, vocabulary

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        weights, vocabulary = self.paths
        net = load_blip(weights, self.config, self.params.precision).to(x.device)
        ids = token_ids(self.prompt(condition), vocabulary).to(x.device)
        inputs = Preprocess(self.config.side)(self.unit(x))
        scores: Tensor = net(inputs, ids)
        return scores

    def tokens_cut(self, condition: Condition) -> int:
        ids = word_pieces(self.paths[1]).encode(self.prompt(condition)).ids
        return max(0, len(ids) - LONGEST_PROMPT)

    def weights(self) -> dict[str, str]:
        pairs = zip(self.external(), self.paths, strict=True)
        return {name: external.file_digest(path) for name, path in pairs}


@cache
def load_blip(path: Path, config: BlipConfig, precision: Precision = "float32") -> BlipScore:
    """The frozen network, made once per file."""
    net = BlipScore(config)
    state = external.read_state(path)
    # 0, 1, 2, ...: a buffer of the package's BERT, not a weight.
    state.pop("blip.text_encoder.embeddings.position_ids", None)
    external.load_strictly(net, state, path)
    return net.requires_grad_(False).narrowed(getattr(torch, precision)).eval()


@cache
def token_ids(prompt: str, vocabulary: Path) -> Tensor:
    """Ids (1, length) of BERT's word pieces with their start and end marks, which stay."""
    ids = word_pieces(vocabulary).encode(prompt).ids
    read = ids if len(ids) <= LONGEST_PROMPT else [*ids[: LONGEST_PROMPT - 1], ids[-1]]
    return torch.tensor([read])


@cache
def word_pieces(vocabulary: Path) -> Any:
    """BERT's tokenizer, which cuts nothing."""
    try:
        from tokenizers import BertWordPieceTokenizer
    except ImportError as error:
        raise UserError(
            "image-reward needs transformers: pip install 'tiltbench[images]' (about 1 GB)"
        ) from error
    return BertWordPieceTokenizer(str(vocabulary), lowercase=True)
