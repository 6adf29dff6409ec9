"""Training: the one LightningModule, the run folder, the bundle."""
