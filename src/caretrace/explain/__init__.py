"""Attributions of a score, and the gates they must pass before they may be called explanations.

A method takes a *score function* (`scores.Score`: batch → logit per sample), not a model class. It gives
every measurement a credit: how much of the logit it is answerable for, given a stated reference. `faithfulness`
holds methods to what was planted, `certificate` writes down which of them passed.
"""
