r"""The document's model: an encoder-decoder in BART's shape, told age and sex by prompts (Wang and Sun 2022).

The parts are named as in `transformers`, so that weights of BART fit as they are (`load_bart`); nothing else of that
library is needed. Tokens are ours, so token embeddings always begin from scratch.

    reads    prompt | <s> <v> 9 17 <\v>                    earlier visits
    writes   prompt | <s> → <v> → 9 → 12 → <\v>            the next visit, or </s> when there is none
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caretrace.apps.synth.codes.vocabulary import PAD
from caretrace.errors import BundleError, ConfigError

_OFFSET = 2  # BART's table of positions begins with two that are not used
_AGE_SCALE = 100.0  # years


@dataclasses.dataclass(frozen=True)
class PromptBartConfig:
    """Size and losses of the model; a weight of 0 leaves a loss out, which is its ablation.

    Args:
        d_model: Width.
        n_layers: Layers of the encoder, and of the decoder.
        n_heads: Attention heads.
        d_feed_forward: Width inside the feed-forward part.
        dropout: Probability of dropping a unit.
        d_prompt: Width in which prompts are parameterised before they are widened.
        max_positions: Longest sequence; of longer histories the encoder reads the latest visits.
        pretrained: Folder or hub id of a BART whose sizes and weights to take; empty begins from scratch.
        weight_next_visit: Of predicting each visit from those before it.
        weight_infill: Of mending masked spans.
        weight_delete: Of mending deletions.
        weight_replace: Of mending replacements.
        weight_age: Of guessing age from a history read without prompt.
        weight_sex: Of guessing sex, likewise.
        weight_pairs: Of the divergence between predicted and observed pairs of categories in a visit.
        pairs_least: Pairs that fewer visits have are left out of it.
    """

    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    d_feed_forward: int = 512
    dropout: float = 0.1
    d_prompt: int = 128
    max_positions: int = 1024
    pretrained: str = ""
    weight_next_visit: float = 1.0
    weight_infill: float = 0.1
    weight_delete: float = 0.1
    weight_replace: float = 0.1
    weight_age: float = 0.1
    weight_sex: float = 0.1
    weight_pairs: float = 0.1
    pairs_least: int = 5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("weight_") and value < 0:
                raise ConfigError(f"model.{field.name}: got {value}, it must not be negative")
        if self.d_model % self.n_heads:
            raise ConfigError(f"model.d_model {self.d_model} must be a multiple of n_heads {self.n_heads}")


class Attention(nn.Module):
    """Multi-head attention with BART's four projections."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, hidden: Tensor, other: Tensor, may: Tensor) -> Tensor:
        """`hidden` looks at `other` where `may` `[batch, 1, step, other]`."""
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.q_proj(hidden), self.k_proj(other), self.v_proj(other))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=may)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A layer of encoder or decoder, each part added and then normalised."""

    def __init__(self, config: PromptBartConfig, *, crossed: bool) -> None:
        super().__init__()
        d = config.d_model
        self.self_attn = Attention(d, config.n_heads)
        self.self_attn_layer_norm = nn.LayerNorm(d)
        self.encoder_attn = Attention(d, config.n_heads) if crossed else None
        self.encoder_attn_layer_norm = nn.LayerNorm(d) if crossed else None
        self.fc1, self.fc2 = nn.Linear(d, config.d_feed_forward), nn.Linear(config.d_feed_forward, d)
        self.final_layer_norm = nn.LayerNorm(d)
        self.dropout = config.dropout

    def forward(
        self, hidden: Tensor, may: Tensor, memory: Tensor | None = None, may_memory: Tensor | None = None
    ) -> Tensor:
        """Hidden states of the next layer."""
        hidden = self.self_attn_layer_norm(hidden + self._drop(self.self_attn(hidden, hidden, may)))
        if self.encoder_attn is not None and self.encoder_attn_layer_norm is not None:
            assert memory is not None
            assert may_memory is not None
            crossed = self.encoder_attn(hidden, memory, may_memory)
            hidden = self.encoder_attn_layer_norm(hidden + self._drop(crossed))
        inner = self.fc2(F.gelu(self.fc1(hidden)))
        return self.final_layer_norm(hidden + self._drop(inner))

    def _drop(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, self.dropout, self.training)


class Stack(nn.Module):
    """Encoder or decoder: positions, layers, and prompts put before the tokens."""

    def __init__(self, config: PromptBartConfig, *, decoder: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.embed_positions = nn.Embedding(config.max_positions + _OFFSET, config.d_model)
        self.layernorm_embedding = nn.LayerNorm(config.d_model)
        self.layers = nn.ModuleList(Layer(config, crossed=decoder) for _ in range(config.n_layers))
        self.dropout = config.dropout
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def forward(
        self,
        embedded: Tensor,
        padding: Tensor,
        prompt: Tensor | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of the prompt and the tokens, and where they are padding.

        Args:
            embedded: `[batch, step, d_model]`, token embeddings.
            padding: `[batch, step]`, True where a token is padding.
            prompt: `[batch, prompt, d_model]`, put before; None for none.
            memory: What the encoder returned.
        """
        places = torch.arange(embedded.shape[1], device=embedded.device) + _OFFSET
        hidden = self.layernorm_embedding(embedded + self.embed_positions(places))
        hidden = F.dropout(hidden, self.dropout, self.training)
        if prompt is not None:
            hidden = torch.cat([prompt, hidden], 1)
            padding = torch.cat([padding.new_zeros(prompt.shape[:2]), padding], 1)
        steps = hidden.shape[1]
        may = ~padding[:, None, None]
        if self.decoder:
            causal = torch.ones(steps, steps, dtype=torch.bool, device=hidden.device).tril()
            # A padded step may look at the first one, so that its softmax is defined.
            may = may & causal | (torch.arange(steps, device=hidden.device) == 0)
        may_memory = None if memory is None else ~memory[1][:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, may, None if memory is None else memory[0], may_memory)
        return hidden, padding


class Prompts(nn.Module):
    """Age and sex as two vectors: a few numbers, widened by one matrix (the reparameterisation)."""

    def __init__(self, config: PromptBartConfig) -> None:
        super().__init__()
        self.age = nn.Linear(1, config.d_prompt)
        self.sex = nn.Embedding(2, config.d_prompt)
        self.widen = nn.Linear(config.d_prompt, config.d_model, bias=False)

    def forward(self, age: Tensor, sex: Tensor) -> Tensor:
        """`[batch, 2, d_model]`, from whole years and 0 or 1."""
        parts = [self.age(age[:, None].to(self.widen.weight.dtype) / _AGE_SCALE), self.sex(sex)]
        return self.widen(torch.tanh(torch.stack(parts, 1)))


class PromptBart(nn.Module):
    """Encoder-decoder over hierarchical tokens.

    Args:
        config: Sizes; those of `pretrained` must have been taken over (`sizes_of`).
        n_tokens: Size of the vocabulary.
    """

    N_PROMPTS = 2

    def __init__(self, config: PromptBartConfig, n_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(n_tokens, config.d_model, padding_idx=PAD)
        nn.init.normal_(self.shared.weight, std=0.02)
        self.encoder, self.decoder = Stack(config, decoder=False), Stack(config, decoder=True)
        self.encoder_prompt, self.decoder_prompt = Prompts(config), Prompts(config)
        self.token_bias = nn.Parameter(torch.zeros(n_tokens))
        self.age_head, self.sex_head = nn.Linear(config.d_model, 1), nn.Linear(config.d_model, 1)

    def encode(self, tokens: Tensor, age: Tensor, sex: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder looks at: `[batch, prompt + step, d_model]`, and where it is padding."""
        prompt = self.encoder_prompt(age, sex)
        found: tuple[Tensor, Tensor] = self.encoder(self.shared(tokens), tokens == PAD, prompt)
        return found

    def decode(self, tokens: Tensor, age: Tensor, sex: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """`[batch, step, token]`: logits of the token after each; those at prompts are cut off."""
        prompt = self.decoder_prompt(age, sex)
        hidden, _ = self.decoder(self.shared(tokens), tokens == PAD, prompt, memory)
        return hidden[:, self.N_PROMPTS :] @ self.shared.weight.T + self.token_bias

    def guess(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Age in years and logit of sex 1, `[batch]` each, from a history read *without* prompt.

        The prototype's heads sat behind their own prompt and read the answer off it. Here no prompt goes in.
        """
        hidden, padding = self.encoder(self.shared(tokens), tokens == PAD)
        kept = (~padding)[..., None].to(hidden.dtype)
        pooled = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
        return self.age_head(pooled)[:, 0] * _AGE_SCALE + _AGE_SCALE / 2, self.sex_head(pooled)[:, 0]


def pair_divergence(presence: Tensor, first: Tensor, second: Tensor, observed: Tensor) -> Tensor:
    """How far predicted pairs are from observed ones; has a gradient, because it is made of probabilities.

    Args:
        presence: `[visit, category]`, predicted probability that a visit has each.
        first: `[pair]`, category.
        second: `[pair]`, category.
        observed: `[pair]`, how many training visits have both; only pairs that enough visits have.

    Returns:
        Kullback-Leibler divergence of predicted from observed pairs, nats; 0 if there are none.
    """
    if not len(observed):
        return presence.sum() * 0
    predicted = (presence[:, first] * presence[:, second]).sum(0) + 1e-9
    p, q = observed / observed.sum(), predicted / predicted.sum()
    return (p * (p.log() - q.log())).sum()


def sizes_of(config: PromptBartConfig) -> PromptBartConfig:
    """The settings with the sizes of `pretrained`, if there is one.

    Raises:
        BundleError: It is no BART.
    """
    if not config.pretrained:
        return config
    path = _folder(config.pretrained) / "config.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        found = dataclasses.replace(
            config,
            d_model=given["d_model"],
            n_layers=given["encoder_layers"],
            n_heads=given["encoder_attention_heads"],
            d_feed_forward=given["encoder_ffn_dim"],
            max_positions=given["max_position_embeddings"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: not the settings of a BART ({error}); try facebook/bart-base") from None
    if given.get("model_type") != "bart" or given.get("decoder_layers") != given["encoder_layers"]:
        raise BundleError(f"{path}: not the settings of a BART with as many layers on both sides")
    return found


def load_bart(model: PromptBart, name: str) -> list[str]:
    """Take the weights of a BART for encoder and decoder, from safetensors alone.

    Args:
        model: Of the sizes of that BART (`sizes_of`).
        name: Folder, or id on the Hugging Face hub (needs the extra `hub`).

    Returns:
        Names of the weights taken.

    Raises:
        BundleError: There are no safetensors, or they lack a weight or have another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _folder(name) / "model.safetensors"
    if not path.is_file():
        raise BundleError(
            f"{path} is missing; weights are read from safetensors alone, other formats can run code"
        )
    try:
        found = {key.removeprefix("model."): value for key, value in load_file(path).items()}
    except SafetensorError as error:
        raise BundleError(f"{path}: {error}; download it again") from None
    own = model.state_dict()
    wanted = [key for key in own if key.startswith(("encoder.", "decoder."))]
    for key in wanted:
        if key not in found or found[key].shape != own[key].shape:
            got = tuple(found[key].shape) if key in found else "nothing"
            raise BundleError(
                f"{path}: {key} is {got}, the model needs {tuple(own[key].shape)}; is this a BART?"
            )
    model.load_state_dict({**own, **{key: found[key].to(own[key].dtype) for key in wanted}})
    return wanted


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ConfigError(f"{name!r} is no folder; for the hub, `pip install 'caretrace[hub]'`") from None
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BundleError(
            f"{name!r} is no folder, and the hub does not give it ({error}); give a folder"
        ) from None
