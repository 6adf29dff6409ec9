"""Settings of the mortality model."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from caretrace.errors import ConfigError
from caretrace.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class MortalityConfig:
    """What the model reads and how large it is.

    Args:
        design: `two-readings`, the model we recommend, or `clinical-longformer`, the one of the document; the named
            configuration of that name sets all the rest.
        text: What reads the texts of measurements: `none`; `tfidf`, fitted on training subjects; or an encoder of
            the Hugging Face hub by its id, or a folder with one, such as `yikuan8/Clinical-Longformer`.
        text_store: Folder that keeps the vectors of texts for other runs, too; null keeps them in the run.
        backbone: A row of `backbones.BACKBONES`.
        backbone_settings: What else the backbone takes, such as `backbone_settings.n_heads=8` of a transformer.
        d_model: Width of the hidden states.
        n_layers: Layers of the backbone.
        dropout: Probability of dropping a hidden unit.
        code_dropout: Probability, in training, that a sample is shown without one of its codes.
        n_bins: Linear pieces of a value's embedding.
        pooling_heads: Learned queries of the attention pooling.
        step_hours: Length of a step of the backbone, hours; 0 takes every measurement as a step.
        lookback_hours: Steps reach back this far; what is older shares one step.
        level_hours: Windows of the second, linear reading, hours before the prediction time; none turns
            it off.
        level_spread: Standard deviation of the prior on its coefficients.
        trees: Trees of the third reading, boosted trees with random split points; 0 turns it off. It has no gradients,
            so such a model is explained by removal alone.
        trees_hours: Windows of what the trees read, beside the whole record, hours before the prediction time.
        trees_weight: Weight of the trees' logit in the mean, where each other reading has 1.
        screen: Codes are withheld from both readings unless they say more of the outcome than others do
            (`screening`): the penalty on a code, in multiples of the one that chance alone would pass in one of twenty
            cohorts. 0 reads every code, and so does `step_hours` 0.
        forget_hours: Measurements longer before the prediction time than this are not read, so that an older stay
            cannot stand in for this one; null reads the whole record.
        max_measurements: Latest measurements read per sample.
        min_samples: A code must occur in this many training samples to be known.
        landmark_half_life_hours: With several landmarks per stay, a label counts half as much in the loss as one so
            many hours later in the stay; null counts all alike.
        save_attention_every: Save attention weights every so many training batches, into the run's folder
            `attention`; null saves none.
        attention_megabytes: Largest file of attention weights, before compression; samples, then early steps, are
            left out to keep to it.
        static: Code prefixes whose latest code is a static feature; the age is always one.
        training: Settings of the training.
    """

    design: Literal["two-readings", "clinical-longformer"] = "two-readings"
    text: str = "none"
    text_store: str | None = None
    backbone: str = "gru"
    backbone_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    d_model: int = 64
    n_layers: int = 1
    dropout: float = 0.3
    code_dropout: float = 0.2
    n_bins: int = 8
    pooling_heads: int = 4
    step_hours: float = 4.0
    lookback_hours: float = 48.0
    level_hours: tuple[float, ...] = (48.0,)
    level_spread: float = 0.25
    trees: int = 0
    trees_hours: tuple[float, ...] = (24.0, 6.0)
    trees_weight: float = 2.0
    screen: float = 0.0
    forget_hours: float | None = None
    max_measurements: int = 4096
    min_samples: int = 20
    landmark_half_life_hours: float | None = None
    save_attention_every: int | None = None
    attention_megabytes: int = 64
    static: tuple[str, ...] = (
        "GENDER",
        "RACE",
        "MARITAL_STATUS",
        "INSURANCE",
        "ADMISSION_TYPE",
        "ADMISSION_LOCATION",
        "ICU_ADMISSION",
    )
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "n_bins", "pooling_heads", "max_measurements", "min_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, it must be at least 1")
        above = ("landmark_half_life_hours", "forget_hours", "save_attention_every", "attention_megabytes")
        for name in above:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: got {value}, it must be above 0, or null")
        if not self.text.strip():
            raise ConfigError("text: got nothing; none, tfidf, a hub id or a folder")
        if self.design == "clinical-longformer" and self.text == "none":
            raise ConfigError(
                "design=clinical-longformer reads nothing but texts, types and times: set text to "
                "yikuan8/Clinical-Longformer, to a folder with an encoder, or to tfidf"
            )
        if not all(hours > 0 for hours in self.level_hours) or self.level_spread <= 0:
            raise ConfigError(
                f"level_hours {list(self.level_hours)} and level_spread {self.level_spread} must be positive"
            )
        if not (self.step_hours >= 0 and self.lookback_hours > 0):
            raise ConfigError(
                f"step_hours {self.step_hours} must not be negative and lookback_hours {self.lookback_hours} "
                "must be positive"
            )
        if self.trees < 0 or not self.trees_weight > 0 or not all(hours > 0 for hours in self.trees_hours):
            raise ConfigError(
                f"trees {self.trees} must not be negative, trees_weight {self.trees_weight} and trees_hours "
                f"{list(self.trees_hours)} must be positive; 300 trees is a good start"
            )
        if not self.screen >= 0:
            raise ConfigError(f"screen: got {self.screen}, it must not be negative; 0.25 is a good start")
        if self.d_model % self.pooling_heads:
            raise ConfigError(
                f"d_model {self.d_model} must be a multiple of pooling_heads {self.pooling_heads}; try 64 and 4"
            )
        for name in ("dropout", "code_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, it must be at least 0 and below 1")
