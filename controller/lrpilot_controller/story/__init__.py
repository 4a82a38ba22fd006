"""A run's story: its records folded into what a person wants to know of it."""

from lrpilot_controller.story.fold import tell
from lrpilot_controller.story.following import Follower
from lrpilot_controller.story.lookup import find_run, story_of, summaries
from lrpilot_controller.story.model import (
    Cost,
    DecisionTold,
    Notice,
    Point,
    Progress,
    Refusal,
    Story,
    Summary,
)

__all__ = [
    "Cost",
    "DecisionTold",
    "Follower",
    "Notice",
    "Point",
    "Progress",
    "Refusal",
    "Story",
    "Summary",
    "find_run",
    "story_of",
    "summaries",
    "tell",
]
