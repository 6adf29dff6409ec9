"""The model of the document this application comes from: event texts through Clinical-Longformer.

    per event: type (one of 5), text (768 numbers), time since admission -> 256
    -> Transformer, 4 layers, 8 heads, feed-forward 512 -> attention pooling, 4 heads
    -> with static features -> 256 -> 128 -> 1

Two things are not as in the document, because they would tell the outcome: time is counted from the admission, not to
the last event, and the length of stay is no feature. And one by choice: attention looks back only, so that a risk at an
earlier landmark can be read from the same pass; the pooled vector still sees every event.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from caretrace.apps.mortality.config import MortalityConfig
from caretrace.apps.mortality.recency import recency, weights_of
from caretrace.backbones import build_backbone
from caretrace.backbones.pooling import AttentionPooling
from caretrace.backbones.text_embedding import TextEmbedding, TextVectors
from caretrace.data.batch import EventBatch
from caretrace.data.samples import Samples
from caretrace.heads import RiskHead

# The event streams of the document: the first five of `schema.EventType`.
N_STREAMS = 5
_HOURS_PER_DAY = 24.0


class EventEmbedding(nn.Module):
    """One step per measurement: which of five streams, its text, and when it was since admission.

    A measurement of another kind, such as a vital sign, is of none of the five and has no text: a step that says
    that there was something.

    Args:
        texts: Vectors of the texts.
        d_model: Width of the embedding.
    """

    def __init__(self, texts: TextVectors, *, d_model: int) -> None:
        super().__init__()
        self.texts = TextEmbedding(texts, d_model=d_model)
        self.type_and_time = nn.Linear(N_STREAMS + 1, d_model)

    def forward(
        self, batch: EventBatch
    ) -> tuple[Float[Tensor, "batch step d_model"], Bool[Tensor, "batch step"]]:
        """Hidden vectors and their padding mask (True where padded)."""
        stream = torch.arange(N_STREAMS, device=batch.event_type.device)
        one_hot = (batch.event_type[..., None] == stream).to(batch.time_hours.dtype)
        read = torch.cat([one_hot, days_since_admission(batch)[..., None]], -1)
        return self.type_and_time(read) + self.texts(batch.text_id), batch.padding_mask

    @property
    def blank(self) -> Float[Tensor, "d_model"]:
        """The vector of a measurement of no stream, without text, at admission."""
        return self.type_and_time.bias


def days_since_admission(batch: EventBatch) -> Float[Tensor, "batch measurement"]:
    """Days from ICU admission to each measurement, as asinh: like days near admission, like a logarithm far off.

    Negative before admission. Where no admission is known, days are counted from the first measurement. Nothing
    later than the prediction time has a part in it.
    """
    first = -batch.time_hours[:, :1]
    since = torch.where(torch.isfinite(batch.hours_since_admission), batch.hours_since_admission, first[:, 0])
    return torch.asinh((batch.time_hours + since[:, None]) / _HOURS_PER_DAY)


class DocumentModel(nn.Module):
    """Logit of death for each sample.

    Args:
        config: Settings; `clinical-longformer.yaml` has those of the document.
        n_static: Number of static features.
        texts: Vectors of the texts.
    """

    level = None
    trees = None

    def __init__(self, config: MortalityConfig, *, n_static: int, texts: TextVectors) -> None:
        super().__init__()
        d_model, dropout = config.d_model, config.dropout
        self.embedding = EventEmbedding(texts, d_model=d_model)
        self.backbone = build_backbone(
            config.backbone,
            d_model=d_model,
            n_layers=config.n_layers,
            dropout=dropout,
            **config.backbone_settings,
        )
        self.pooling = AttentionPooling(d_model=d_model, n_heads=config.pooling_heads)
        self.head = nn.Sequential(
            nn.Linear(d_model + n_static, d_model),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(d_model, d_model // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(d_model // 2, 1),
        )
        self.recency = recency(config)

    def prepare(self, train: Samples) -> None:
        """Nothing but the weights of landmarks is fitted without gradient steps."""
        if self.recency is not None:
            self.recency.fit(train)

    def forward(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """Logit per sample."""
        return self.course(batch)

    def course(self, batch: EventBatch) -> Float[Tensor, "batch"]:
        """The same; there is no other reading."""
        hidden, padding_mask = self.embedding(batch)
        pooled = self.pooling(self.backbone(hidden, padding_mask), padding_mask)
        logit: Tensor = self.head(torch.cat([pooled, batch.static], -1))[:, 0]
        return logit

    def loss(self, batch: EventBatch, outcome: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Binary cross-entropy."""
        return RiskHead.loss(self.course(batch), outcome, weights_of(self.recency, batch))

    def tuning_loss(
        self, logit: Float[Tensor, "batch"], outcome: Float[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        """The same, once the mean risk is set right."""
        return RiskHead.tuning_loss(logit, outcome)
