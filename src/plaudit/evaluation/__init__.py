"""Comparing checkpoints without changing them: win rates, truth tables, the report.

Knows no act and no world: models come in as callables, their answers as text.
"""
