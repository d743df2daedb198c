"""Projects: Shardline's own shards, what people gather work under."""

from typing import Literal

from shards.types.definition import Date, Link, Number, ShardType, StructuredData
from shards.types.text import Fact, LongText, TextTemplate, as_day, as_list, as_money, as_words

ProjectStatus = Literal["planned", "in_progress", "on_hold", "completed", "cancelled"]
ProjectPriority = Literal["critical", "high", "medium", "low"]


class ProjectData(StructuredData):
    """A project. Ids in it are shard ids, since a project is no record of a source."""

    status: ProjectStatus
    priority: ProjectPriority | None = None
    description: str | None = None
    stage: str | None = None
    start_date: Date | None = None
    target_date: Date | None = None
    budget: Number | None = None
    currency: str | None = None
    manager_id: str | None = None
    manager_email: str | None = None
    team_ids: list[str] | None = None
    company_id: str | None = None
    opportunity_id: str | None = None
    keywords: list[str] | None = None
    objectives: list[str] | None = None
    risks: list[str] | None = None
    milestones: list[str] | None = None
    tags: list[str] | None = None


PROJECT = ShardType(
    id="c_project",
    noun="project",
    data=ProjectData,
    chunking="own",
    links=(
        Link("companyId", "references", "c_account", holds_shard_id=True),
        Link("opportunityId", "references", "c_opportunity", holds_shard_id=True),
        Link("managerId", "has_owner", "c_user", holds_shard_id=True),
    ),
    text=TextTemplate(
        facts=(
            Fact("status", "Status", as_words),
            Fact("stage", "Stage"),
            Fact("priority", "Priority"),
            Fact("startDate", "Start date", as_day),
            Fact("targetDate", "Target date", as_day),
            Fact("budget", "Budget", as_money),
            Fact("keywords", "Keywords", as_list),
            Fact("tags", "Tags", as_list),
            Fact("objectives", "Objectives", as_list),
            Fact("milestones", "Milestones", as_list),
            Fact("risks", "Risks", as_list),
        ),
        texts=(LongText("description", "Description"),),
    ),
)
