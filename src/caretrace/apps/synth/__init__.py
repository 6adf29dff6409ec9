"""synth: synthetic histories of diagnoses, and the figures that say how far they can be trusted."""
