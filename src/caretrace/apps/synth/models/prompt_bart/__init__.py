"""The document's generator: an encoder-decoder in BART's shape, prompted with age and sex."""
