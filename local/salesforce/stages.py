"""What an opportunity's stage decides: Salesforce sets it with the stage, and lets nobody write IsClosed or IsWon."""

from collections.abc import Mapping
from typing import Final

_CATEGORIES: Final = {
    "Pipeline": "Pipeline",
    "BestCase": "Best Case",
    "Forecast": "Commit",
    "Closed": "Closed",
    "Omitted": "Omitted",
}
"""The names of forecast categories by the values that the API gives."""

_STAGES: Final = {
    "Prospecting": (10, "Pipeline"),
    "Qualification": (10, "Pipeline"),
    "Needs Analysis": (20, "Pipeline"),
    "Value Proposition": (50, "Pipeline"),
    "Id. Decision Makers": (60, "Pipeline"),
    "Perception Analysis": (70, "BestCase"),
    "Proposal/Price Quote": (75, "BestCase"),
    "Negotiation/Review": (90, "Forecast"),
    "Closed Won": (100, "Closed"),
    "Closed Lost": (0, "Omitted"),
}
"""Probability in percent and forecast category of the stages that a new org has; others are an org's own."""


def with_stage(object_name: str, values: Mapping[str, object]) -> Mapping[str, object]:
    """The *values* of a save, and what their stage decides of an opportunity that they do not say themselves."""
    stage = values.get("StageName")
    if object_name != "Opportunity" or not isinstance(stage, str):
        return values
    decided: dict[str, object] = {"IsClosed": stage in ("Closed Won", "Closed Lost"), "IsWon": stage == "Closed Won"}
    if stage in _STAGES:
        probability, category = _STAGES[stage]
        decided |= {
            "Probability": probability,
            "ForecastCategory": category,
            "ForecastCategoryName": _CATEGORIES[category],
        }
    return {**decided, **values}
