"""The document's model, without its faults: an autoencoder, a detector of anomalies, and their fusion."""
