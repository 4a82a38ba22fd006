"""Decisions as Optuna trials: the review copy of the journal, and the only place that uses optuna.

Nothing here imports optuna before there is a decision to record.
"""
