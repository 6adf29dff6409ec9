"""A decoder that writes category, then code: a generator that learns by gradients, with marks and conditions."""
