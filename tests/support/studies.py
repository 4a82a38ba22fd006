"""Our studies as Optuna has them, for tests that look at what was written."""

import optuna

from lrpilot_controller.tuning.contents import studies_in


def our_studies(storage: optuna.storages.BaseStorage) -> list[optuna.Study]:
    """Our studies in a place of trials, the oldest first."""
    rdb = getattr(storage, "_backend", storage)
    sampler = optuna.samplers.RandomSampler()
    return [
        optuna.load_study(study_name=study.name, storage=storage, sampler=sampler)
        for study in studies_in(rdb.engine)
    ]
