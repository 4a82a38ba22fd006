"""Decisions and searches as Optuna trials, and what earlier runs found: all that uses optuna.

The trials are a review copy of the journal. Nothing here imports optuna before there is one to
write or to read.
"""
