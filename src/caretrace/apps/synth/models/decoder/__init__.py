"""The generator we recommend: a decoder that writes category, then code."""
