"""Several processes on one address: one leads, further ones take batches and hand everything else on."""
