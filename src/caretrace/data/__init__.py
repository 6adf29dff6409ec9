"""MEDS dataset + labels → tensors. Everything fitted here is fitted on training subjects only."""
