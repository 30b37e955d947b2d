"""Annotators that are no people: a reward function with noise, a model behind an endpoint. Imports no torch."""
