"""Accounts, contacts and opportunities: what a CRM keeps. Field names are those the platform's services read."""

from typing import Literal

from shards.types.definition import Date, Link, Moment, Number, RelationshipType, ShardType, StructuredData
from shards.types.text import Fact, LongText, Place, TextTemplate, as_day, as_money, as_number, as_words, stage_words

OpportunityStatus = Literal["open", "won", "lost"]

STANDARD_STAGES: dict[str, str] = {
    "Prospecting": "prospecting",
    "Qualification": "qualification",
    "Needs Analysis": "needs_analysis",
    "Value Proposition": "value_proposition",
    "Id. Decision Makers": "id_decision_makers",
    "Perception Analysis": "perception_analysis",
    "Proposal/Price Quote": "proposal_price_quote",
    "Negotiation/Review": "negotiation_review",
    "Closed Won": "closed_won",
    "Closed Lost": "closed_lost",
}
"""The stages that Salesforce ships with. A company's own stages are written in the same lower_snake form."""


class AccountData(StructuredData):
    """A company or household."""

    account_number: str | None = None
    type: str | None = None
    industry: str | None = None
    rating: str | None = None
    ownership: str | None = None
    annual_revenue: Number | None = None
    number_of_employees: int | None = None
    currency: str | None = None
    ticker_symbol: str | None = None
    phone: str | None = None
    fax: str | None = None
    website: str | None = None
    site: str | None = None
    description: str | None = None
    account_source: str | None = None
    tags: list[str] | None = None
    billing_street: str | None = None
    billing_city: str | None = None
    billing_state: str | None = None
    billing_state_code: str | None = None
    billing_postal_code: str | None = None
    billing_country: str | None = None
    billing_country_code: str | None = None
    billing_latitude: Number | None = None
    billing_longitude: Number | None = None
    billing_geocode_accuracy: str | None = None
    shipping_street: str | None = None
    shipping_city: str | None = None
    shipping_state: str | None = None
    shipping_state_code: str | None = None
    shipping_postal_code: str | None = None
    shipping_country: str | None = None
    shipping_country_code: str | None = None
    shipping_latitude: Number | None = None
    shipping_longitude: Number | None = None
    shipping_geocode_accuracy: str | None = None
    parent_id: str | None = None
    parent_name: str | None = None
    owner_id: str | None = None
    owner_name: str | None = None
    record_type_id: str | None = None
    record_type_name: str | None = None
    duns_number: str | None = None
    naics_code: str | None = None
    naics_desc: str | None = None
    sic: str | None = None
    sic_desc: str | None = None
    tradestyle: str | None = None
    year_started: str | None = None
    clean_status: str | None = None
    photo_url: str | None = None
    is_partner: bool | None = None
    is_customer_portal: bool | None = None
    is_person_account: bool | None = None
    salutation: str | None = None
    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    suffix: str | None = None
    person_contact_id: str | None = None
    person_email: str | None = None
    person_title: str | None = None
    person_department: str | None = None
    person_birthdate: Date | None = None
    person_home_phone: str | None = None
    person_mobile_phone: str | None = None
    person_mailing_street: str | None = None
    person_mailing_city: str | None = None
    person_mailing_state: str | None = None
    person_mailing_postal_code: str | None = None
    person_mailing_country: str | None = None
    created_date: Moment | None = None
    created_by: str | None = None


class ContactData(StructuredData):
    """A person at a company."""

    salutation: str | None = None
    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    suffix: str | None = None
    account_id: str | None = None
    account_name: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile_phone: str | None = None
    home_phone: str | None = None
    other_phone: str | None = None
    assistant_name: str | None = None
    assistant_phone: str | None = None
    fax: str | None = None
    title: str | None = None
    title_type: str | None = None
    department: str | None = None
    department_group: str | None = None
    buyer_attributes: list[str] | None = None
    lead_source: str | None = None
    birthdate: Date | None = None
    description: str | None = None
    tags: list[str] | None = None
    mailing_street: str | None = None
    mailing_city: str | None = None
    mailing_state: str | None = None
    mailing_state_code: str | None = None
    mailing_postal_code: str | None = None
    mailing_country: str | None = None
    mailing_country_code: str | None = None
    mailing_latitude: Number | None = None
    mailing_longitude: Number | None = None
    mailing_geocode_accuracy: str | None = None
    other_street: str | None = None
    other_city: str | None = None
    other_state: str | None = None
    other_state_code: str | None = None
    other_postal_code: str | None = None
    other_country: str | None = None
    other_country_code: str | None = None
    other_latitude: Number | None = None
    other_longitude: Number | None = None
    other_geocode_accuracy: str | None = None
    owner_id: str | None = None
    owner_name: str | None = None
    reports_to_id: str | None = None
    reports_to_name: str | None = None
    record_type_id: str | None = None
    record_type_name: str | None = None
    currency: str | None = None
    has_opted_out_of_email: bool | None = None
    has_opted_out_of_fax: bool | None = None
    do_not_call: bool | None = None
    is_email_bounced: bool | None = None
    email_bounced_reason: str | None = None
    email_bounced_date: Moment | None = None
    clean_status: str | None = None
    photo_url: str | None = None
    created_date: Moment | None = None
    created_by: str | None = None


class OpportunityData(StructuredData):
    """A deal in the making, won or lost."""

    opportunity_number: str | None = None
    type: str | None = None
    stage: str | None = None
    stage_name: str | None = None
    status: OpportunityStatus | None = None
    is_closed: bool | None = None
    is_won: bool | None = None
    lost_reason: str | None = None
    lost_reason_detail: str | None = None
    amount: Number | None = None
    expected_revenue: Number | None = None
    total_price: Number | None = None
    currency: str | None = None
    probability: Number | None = None
    total_opportunity_quantity: Number | None = None
    close_date: Date | None = None
    fiscal: str | None = None
    fiscal_year: int | None = None
    fiscal_quarter: int | None = None
    forecast_category: str | None = None
    forecast_category_name: str | None = None
    is_excluded_from_forecast: bool | None = None
    next_step: str | None = None
    next_step_date: Date | None = None
    description: str | None = None
    lead_source: str | None = None
    rating: str | None = None
    tags: list[str] | None = None
    account_id: str | None = None
    account_name: str | None = None
    contact_id: str | None = None
    contact_name: str | None = None
    lead_id: str | None = None
    lead_name: str | None = None
    campaign_id: str | None = None
    campaign_name: str | None = None
    owner_id: str | None = None
    owner_name: str | None = None
    pricebook_id: str | None = None
    record_type_id: str | None = None
    record_type_name: str | None = None
    competitor_ids: list[str] | None = None
    contact_role_ids: list[str] | None = None
    line_item_ids: list[str] | None = None
    has_line_items: bool | None = None
    is_private: bool | None = None
    push_count: int | None = None
    last_stage_change_date: Moment | None = None
    created_date: Moment | None = None
    created_by: str | None = None


def _salesforce(field: str, kind: RelationshipType, target: str, object_type: str, source_field: str) -> Link:
    return Link(field, kind, target, {"salesforce": object_type}, {"salesforce": source_field})


ACCOUNT = ShardType(
    id="c_account",
    noun="account",
    data=AccountData,
    chunking="own",
    links=(
        _salesforce("parentId", "child_of", "c_account", "Account", "ParentId"),
        _salesforce("ownerId", "has_owner", "c_user", "User", "OwnerId"),
    ),
    text=TextTemplate(
        facts=(
            Fact("type", "Type"),
            Fact("industry", "Industry"),
            Fact(None, "Place", Place("billing")),
            Fact("annualRevenue", "Annual revenue", as_money),
            Fact("numberOfEmployees", "Employees", as_number),
            Fact("parentName", "Part of"),
            Fact("rating", "Rating"),
            Fact("ownership", "Ownership"),
            Fact("tickerSymbol", "Ticker symbol"),
            Fact("site", "Site"),
            Fact("personTitle", "Title"),
            Fact("personEmail", "Email"),
            Fact("naicsDesc", "Business"),
            Fact("sicDesc", "Line of business"),
            Fact("ownerName", "Owner"),
        ),
        texts=(LongText("description", "Description"),),
    ),
)

CONTACT = ShardType(
    id="c_contact",
    noun="contact",
    data=ContactData,
    chunking="own",
    links=(
        _salesforce("accountId", "contact_for", "c_account", "Account", "AccountId"),
        _salesforce("reportsToId", "child_of", "c_contact", "Contact", "ReportsToId"),
        _salesforce("ownerId", "has_owner", "c_user", "User", "OwnerId"),
    ),
    text=TextTemplate(
        facts=(
            Fact("title", "Title"),
            Fact("accountName", "Account"),
            Fact("department", "Department"),
            Fact("email", "Email"),
            Fact(None, "Place", Place("mailing")),
            Fact("reportsToName", "Reports to"),
            Fact("leadSource", "Lead source"),
            Fact("ownerName", "Owner"),
        ),
        texts=(LongText("description", "Description"),),
    ),
)

OPPORTUNITY = ShardType(
    id="c_opportunity",
    noun="opportunity",
    data=OpportunityData,
    chunking="own",
    links=(
        _salesforce("accountId", "opportunity_for", "c_account", "Account", "AccountId"),
        _salesforce("contactId", "references", "c_contact", "Contact", "ContactId"),
        _salesforce("ownerId", "has_owner", "c_user", "User", "OwnerId"),
    ),
    text=TextTemplate(
        facts=(
            Fact("stage", "Stage", stage_words),
            Fact("amount", "Amount", as_money),
            Fact("closeDate", "Close date", as_day),
            Fact("accountName", "Account"),
            Fact("nextStep", "Next step"),
            Fact("type", "Type", as_words),
            Fact("contactName", "Contact"),
            Fact("lostReason", "Lost because"),
            Fact("lostReasonDetail", "Loss in detail"),
            Fact("leadSource", "Lead source"),
            Fact("campaignName", "Campaign"),
            Fact("ownerName", "Owner"),
        ),
        texts=(LongText("description", "Description"),),
    ),
)
