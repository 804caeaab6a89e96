"""How likely models find texts: scores, perplexity, divergence.

Promises: figures that follow from the models' own probabilities and nothing else, each with its
definition where it is made, and with its standard error where it is a mean. Leaves to others: the
probabilities themselves (`core.engine.scoring`, by way of `Model.score`).
"""
