import dataclasses

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest

from caretrace.apps.vitals.config import MONITOR, DocumentConfig, GridConfig
from caretrace.apps.vitals.document.autoencoder import ConvLSTMAutoencoder, augmented
from caretrace.apps.vitals.document.forest import Forest
from caretrace.apps.vitals.document.fusion import AttentionFusion, Views, fit_fusion
from caretrace.apps.vitals.document.joint import Joint, Labelled
from caretrace.apps.vitals.document.monitor import DocumentMonitor, is_calm, only, rows_of
from caretrace.apps.vitals.document.table import document_table
from caretrace.apps.vitals.task import Recordings, grid_settings
from caretrace.data.grid import Stretch, batches, cut
from caretrace.errors import CohortError

CHANNELS = ("hr", "resp", "spo2")


def recordings(n=8, steps=400, seed=0):
    rng = np.random.default_rng(seed)
    swing = np.cumsum(rng.standard_normal((n, 3, steps)), axis=2) * 0.1
    values = np.array([80, 18, 97])[:, None] + np.array([4, 1, 0.5])[:, None] * swing
    resolution = dataclasses.replace(MONITOR, length=64, stride=32)
    stretches = [Stretch(i, 0, each.astype(np.float32), 6) for i, each in enumerate(values)]
    return Recordings(grid_settings(GridConfig(), resolution, CHANNELS), resolution, stretches, 0.0)


@pytest.fixture(scope="module")
def monitor():
    return DocumentMonitor.fit(recordings(), DocumentConfig(max_windows=60, pretrain_epochs=2), seed=0)


def test_the_widths_are_those_of_the_document():
    model = ConvLSTMAutoencoder(DocumentConfig(), 2)
    shapes = [tuple(layer.weight.shape[:2]) for layer in model.encoder.convolutions]
    assert shapes == [(16, 4), (32, 16)]
    assert (model.encoder.lstm.hidden_size, model.encoder.lstm.num_layers) == (64, 2)
    assert (model.encoder.lstm.dropout, model.to_latent.out_features) == (0.5, 32)
    rows = torch.randn(3, 4, 256)
    assert model.encode(rows).shape == (3, 32)
    assert model(rows).shape == (3, 2, 256)


def test_fine_tuning_leaves_the_convolutions_alone(monitor):
    assert not any(p.requires_grad for p in monitor.model.encoder.convolutions.parameters())
    assert all(p.requires_grad for p in monitor.model.encoder.lstm.parameters())


def test_the_autoencoder_rebuilds_better_than_the_mean():
    train = recordings()
    apart = [
        dataclasses.replace(stretch, values=stretch.values + 12 * (number - 4))
        for number, stretch in enumerate(train.stretches)
    ]
    config = DocumentConfig(
        max_windows=80, batch_size=8, pretrain_epochs=15, dropout=0.0, augmented=False, learning_rate=5e-3
    )
    found = DocumentMonitor.fit(dataclasses.replace(train, stretches=apart), config, seed=0)
    own = only(apart, CHANNELS, config.channels)
    batch = next(batches(own, cut(own, found.grid), found.grid, found.scaler, 80))
    with torch.no_grad():
        loss = found.model.loss(rows_of(batch), batch.values, batch.observed)
    assert loss < 0.85 * batch.values[batch.observed].square().mean()


def test_the_trees_walked_here_score_as_scikit_learns_do():
    rng = np.random.default_rng(0)
    calm = rng.standard_normal((400, 8)).astype(np.float32)
    new = (3 * rng.standard_normal((50, 8))).astype(np.float32)
    theirs = IsolationForest(n_estimators=100, random_state=0).fit(calm)
    ours = Forest.fit(calm, seed=0)
    np.testing.assert_allclose(ours.anomaly(new), -theirs.score_samples(new), rtol=1e-6)
    risk = ours.risk(np.concatenate([calm, 20 + new]))
    assert risk.min() == 0.0
    assert np.median(risk[:400]) == pytest.approx(0, abs=1)
    assert risk[400:].min() > 50
    assert risk.max() <= 100
    with pytest.raises(CohortError, match="at least 10"):
        Forest.fit(calm[:5], seed=0)


def test_a_saved_monitor_gives_the_same_risks(monitor):
    again = DocumentMonitor.restore(monitor.config, monitor.settings(), monitor.state())
    held = recordings(seed=1).stretches
    for one, other in zip(monitor.risks(held, CHANNELS), again.risks(held, CHANNELS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_risk_stands_where_its_window_ends(monitor):
    held = recordings(n=1, seed=2).stretches
    changed = [
        dataclasses.replace(
            held[0], values=np.where(np.arange(400) >= 200, 150, held[0].values).astype(np.float32)
        )
    ]
    before, after = monitor.risks(held, CHANNELS)[0], monitor.risks(changed, CHANNELS)[0]
    assert (before[:63] == 0).all()
    np.testing.assert_array_equal(before[:200], after[:200])
    assert after[300:].max() > before[300:].max()


def test_augmented_windows_keep_their_shape_and_lose_a_probe():
    values = torch.ones(200, 2, 64)
    changed = augmented(values, np.random.default_rng(0))
    assert changed.shape == values.shape
    assert changed.isfinite().all()
    off = (changed == 0).any(2).any(1).float().mean()
    assert 0.1 < off < 0.3
    ramp = torch.linspace(0, 1, 64).expand(50, 2, 64).contiguous()
    assert (augmented(ramp, np.random.default_rng(0))[:, 0, 32] - 0.5).abs().mean() > 0.02  # time is warped


def test_doubt_needs_dropout_and_leaves_no_trace(monitor):
    own = only(recordings().stretches, CHANNELS, monitor.config.channels)
    batch = next(batches(own, cut(own, monitor.grid)[:4], monitor.grid, monitor.scaler, 4))
    before = monitor.model(rows_of(batch))
    mean, spread = monitor.doubt(batch, draws=8)
    assert mean.shape == spread.shape == batch.values.shape
    assert spread.mean() > 0
    torch.testing.assert_close(monitor.model(rows_of(batch)), before)


def test_calm_is_what_news2_says():
    steady = np.stack([np.full(64, 70.0), np.full(64, 98.0)]).astype(np.float32)
    assert is_calm(steady, ("hr", "spo2"))
    assert not is_calm(steady + np.array([[70], [-8]], np.float32), ("hr", "spo2"))
    assert not is_calm(np.full((2, 64), np.nan, np.float32), ("hr", "spo2"))


def test_fusion_finds_what_needs_both():
    rng = np.random.default_rng(0)
    heart, lungs = (rng.standard_normal((2000, 6)).astype(np.float32) for _ in range(2))
    truth = (heart[:, 0] > 0) & (lungs[:, 0] > 0)
    views = Views((("hr",), ("spo2",)), (heart, lungs))
    model = fit_fusion(views, truth, seed=0)
    with torch.no_grad():
        found = (model(views.tensors()) > 0).numpy()
        weight = AttentionFusion.attention(model, views.tensors())
    assert (found == truth).mean() > 0.93
    torch.testing.assert_close(weight.sum(1), torch.ones(2000))
    with pytest.raises(CohortError, match="both kinds"):
        fit_fusion(views, np.zeros(2000, bool), seed=0)


def test_the_documents_figures_are_those_of_windows_of_known_truth(monitor):
    held = recordings(n=4, seed=3).stretches
    far = [
        dataclasses.replace(each, values=each.values + np.float32(40) * (number < 2))
        for number, each in enumerate(held)
    ]
    labels = [np.full(400, number < 2) for number in range(4)]
    found = document_table(monitor, far, CHANNELS, labels)
    alike = document_table(monitor, held, CHANNELS, labels)
    assert found["separation_ratio"] > 2 * alike["separation_ratio"]
    assert found["windows_in_events"] == found["windows"] / 2
    assert 0 <= found["false_positive_rate"] <= 1
    assert document_table(monitor, held, CHANNELS, [np.zeros(400, bool)] * 4) == {}


def test_fused_encoders_find_what_was_put_in_and_come_back_from_a_bundle():
    """Half of the subjects have a pulse or a saturation that is far off; each encoder sees one of the two."""
    train = recordings(n=16)
    config = DocumentConfig(max_windows=60, pretrain_epochs=2, latent=8)

    def known(seed):
        stretches = recordings(n=16, seed=seed).stretches
        changed = []
        for number, each in enumerate(stretches):
            values = each.values.copy()
            if number % 4 < 2:
                values[number % 4] += np.float32(40) if number % 4 == 0 else np.float32(-15)
            changed.append(dataclasses.replace(each, values=values))
        return Labelled(changed, [np.full(len(each), n % 4 < 2) for n, each in enumerate(changed)])

    joint = Joint.fit(train, known(1), known(2), config, seed=0)
    held = known(3)
    found = joint.table(held, CHANNELS)
    assert found["fusion_auc"] > 0.9
    assert found["fusion_auc"] > max(found["cardiovascular_auc"], found["respiratory_auc"]) + 0.05
    assert found["fusion_f1"] > found["fusion_f1_if_all_flagged"] + 0.1
    again = Joint.restore(config, joint.settings(), joint.state())
    assert again.table(held, CHANNELS) == found
    assert (
        joint.table(Labelled(held.stretches, [np.zeros(len(s), bool) for s in held.stretches]), CHANNELS)
        == {}
    )
