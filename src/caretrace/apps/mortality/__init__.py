"""mortality: the risk of death in the ICU, from everything measured up to a landmark."""
