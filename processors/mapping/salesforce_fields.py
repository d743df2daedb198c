"""Salesforce's fields and ours: for each object with a shard type of its own, what its fields are called and hold.

The tables are read once, at import. Fields that move without meaning (who looked last, when a process touched the row)
are left out, so that a record that says the same has the same fingerprint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.mapping.values import (
    Reader,
    read_boolean,
    read_date,
    read_integer,
    read_moment,
    read_number,
    read_salesforce_id,
    read_text,
    read_word,
    read_words,
)

_FORECAST_CATEGORIES = {
    "Pipeline": "pipeline",
    "BestCase": "best_case",
    "MostLikely": "most_likely",
    "Forecast": "commit",
    "Closed": "closed",
    "Omitted": "omitted",
}
"""The API's values of ForecastCategory, which calls Forecast what its screens call Commit."""


def _read_forecast_category(value: Any) -> str | None:
    return (_FORECAST_CATEGORIES.get(value) if isinstance(value, str) else None) or read_word(value)


Rule = tuple[str, Reader]

_READERS: Mapping[str, Reader] = {
    "text": read_text,
    "number": read_number,
    "integer": read_integer,
    "boolean": read_boolean,
    "date": read_date,
    "datetime": read_moment,
    "id": read_salesforce_id,
    "word": read_word,
    "words": read_words,
    "forecast": _read_forecast_category,
}

_EVERY_OBJECT = """
    OwnerId ownerId id
    RecordTypeId recordTypeId id
    CurrencyIsoCode currency text
    CreatedDate createdDate datetime
    CreatedById createdBy id
"""


_ADDRESS_PARTS: Mapping[str, str] = {
    "street": "text",
    "city": "text",
    "state": "text",
    "stateCode": "text",
    "postalCode": "text",
    "country": "text",
    "countryCode": "text",
    "latitude": "number",
    "longitude": "number",
    "geocodeAccuracy": "text",
}
"""The parts of a compound address and their kinds; the flat fields have them behind the address's prefix."""


def _address(source: str, target: str) -> str:
    """The lines of a flat address block: ``BillingCity billingCity text`` and the others."""
    lines = []
    for part, kind in _ADDRESS_PARTS.items():
        capital = part[0].upper() + part[1:]
        lines.append(f"{source}{capital} {target + capital if target else part} {kind}")
    return "\n".join(lines)


_ACCOUNT_FIELDS = f"""
    {_EVERY_OBJECT}
    Name name text
    AccountNumber accountNumber text
    Type type text
    Industry industry text
    Rating rating word
    Ownership ownership text
    AnnualRevenue annualRevenue number
    NumberOfEmployees numberOfEmployees integer
    TickerSymbol tickerSymbol text
    Phone phone text
    Fax fax text
    Website website text
    Site site text
    Description description text
    AccountSource accountSource text
    {_address("Billing", "billing")}
    {_address("Shipping", "shipping")}
    ParentId parentId id
    DunsNumber dunsNumber text
    NaicsCode naicsCode text
    NaicsDesc naicsDesc text
    Sic sic text
    SicDesc sicDesc text
    Tradestyle tradestyle text
    YearStarted yearStarted text
    CleanStatus cleanStatus text
    PhotoUrl photoUrl text
    IsPartner isPartner boolean
    IsCustomerPortal isCustomerPortal boolean
    IsPersonAccount isPersonAccount boolean
    Salutation salutation text
    FirstName firstName text
    MiddleName middleName text
    LastName lastName text
    Suffix suffix text
    PersonContactId personContactId id
    PersonEmail personEmail text
    PersonTitle personTitle text
    PersonDepartment personDepartment text
    PersonBirthdate personBirthdate date
    PersonHomePhone personHomePhone text
    PersonMobilePhone personMobilePhone text
    PersonMailingStreet personMailingStreet text
    PersonMailingCity personMailingCity text
    PersonMailingState personMailingState text
    PersonMailingPostalCode personMailingPostalCode text
    PersonMailingCountry personMailingCountry text
"""

_CONTACT_FIELDS = f"""
    {_EVERY_OBJECT}
    Name name text
    Salutation salutation text
    FirstName firstName text
    MiddleName middleName text
    LastName lastName text
    Suffix suffix text
    AccountId accountId id
    Email email text
    Phone phone text
    MobilePhone mobilePhone text
    HomePhone homePhone text
    OtherPhone otherPhone text
    AssistantName assistantName text
    AssistantPhone assistantPhone text
    Fax fax text
    Title title text
    TitleType titleType word
    Department department text
    DepartmentGroup departmentGroup word
    BuyerAttributes buyerAttributes words
    LeadSource leadSource text
    Birthdate birthdate date
    Description description text
    {_address("Mailing", "mailing")}
    {_address("Other", "other")}
    ReportsToId reportsToId id
    HasOptedOutOfEmail hasOptedOutOfEmail boolean
    HasOptedOutOfFax hasOptedOutOfFax boolean
    DoNotCall doNotCall boolean
    IsEmailBounced isEmailBounced boolean
    EmailBouncedReason emailBouncedReason text
    EmailBouncedDate emailBouncedDate datetime
    CleanStatus cleanStatus text
    PhotoUrl photoUrl text
"""

_OPPORTUNITY_FIELDS = f"""
    {_EVERY_OBJECT}
    Name name text
    Type type word
    StageName stageName text
    IsClosed isClosed boolean
    IsWon isWon boolean
    Amount amount number
    ExpectedRevenue expectedRevenue number
    Probability probability number
    TotalOpportunityQuantity totalOpportunityQuantity number
    CloseDate closeDate date
    Fiscal fiscal text
    FiscalYear fiscalYear integer
    FiscalQuarter fiscalQuarter integer
    ForecastCategory forecastCategory forecast
    ForecastCategoryName forecastCategoryName text
    NextStep nextStep text
    Description description text
    LeadSource leadSource text
    AccountId accountId id
    ContactId contactId id
    CampaignId campaignId id
    Pricebook2Id pricebookId id
    HasOpportunityLineItem hasLineItems boolean
    IsPrivate isPrivate boolean
    PushCount pushCount integer
    LastStageChangeDate lastStageChangeDate datetime
"""

_USER_FIELDS = f"""
    Name name text
    FirstName firstName text
    MiddleName middleName text
    LastName lastName text
    Suffix suffix text
    Email email text
    Username username text
    Alias alias text
    CommunityNickname nickname text
    Title title text
    Department department text
    Division division text
    CompanyName companyName text
    EmployeeNumber employeeNumber text
    ManagerId managerId id
    IsActive isActive boolean
    UserType userType text
    ProfileId profileId id
    UserRoleId userRoleId id
    Phone phone text
    MobilePhone mobilePhone text
    Extension extension text
    Fax fax text
    {_address("", "")}
    TimeZoneSidKey timeZone text
    LocaleSidKey locale text
    LanguageLocaleKey language text
    AboutMe aboutMe text
    FullPhotoUrl photoUrl text
    AccountId accountId id
    ContactId contactId id
    FederationIdentifier federationIdentifier text
    CurrencyIsoCode currency text
    CreatedDate createdDate datetime
    CreatedById createdBy id
"""

LEFT_OUT = frozenset(
    {
        "attributes",
        "Id",
        "id",
        "IsDeleted",
        "MasterRecordId",
        "deletedDate",
        "SystemModstamp",
        "LastModifiedDate",
        "LastModifiedById",
        "LastModifiedBy",
        "LastActivityDate",
        "LastViewedDate",
        "LastReferencedDate",
    }
)
"""What identity, order and deletion go by, and what moves without a change of meaning, on every object."""

_LEFT_OUT_BY_OBJECT: Mapping[str, frozenset[str]] = {
    "Account": frozenset(),
    "Contact": frozenset({"LastCURequestDate", "LastCUUpdateDate"}),
    # Open activities and overdue tasks change with the calendar, and move no SystemModstamp.
    "Opportunity": frozenset(
        {
            "HasOpenActivity",
            "HasOverdueTask",
            "LastAmountChangedHistoryId",
            "LastCloseDateChangedHistoryId",
            "LastActivityInDays",
        }
    ),
    "User": frozenset(
        {
            "LastLoginDate",
            "LastPasswordChangeDate",
            "NumberOfFailedLogins",
            "PasswordExpirationDate",
            "PasswordResetAttempt",
            "PasswordResetLockoutDate",
            "SuAccessExpirationDate",
            "SmallPhotoUrl",
            "MediumPhotoUrl",
            "BannerPhotoUrl",
            "SmallBannerPhotoUrl",
            "MediumBannerPhotoUrl",
            "EmailEncodingKey",
        }
    ),
}

_SETTINGS: Mapping[str, tuple[str, ...]] = {"User": ("UserPreferences", "UserPermissions")}
"""Prefixes of User's many switches, which say how a person likes the screen, not who they are."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A relationship field: the parent record's Id and Name are taken from the object in it."""

    id_field: str | None
    name_field: str | None


def _parents(*names: str) -> dict[str, Parent]:
    """``Account`` fills ``accountId`` and ``accountName``, when the record itself does not."""
    made = {}
    for name in names:
        stem = name[0].lower() + name[1:]
        made[name] = Parent(f"{stem}Id", f"{stem}Name")
    return made


_PARENTS: Mapping[str, Mapping[str, Parent]] = {
    "Account": {**_parents("Owner", "Parent", "RecordType"), "CreatedBy": Parent("createdBy", None)},
    "Contact": {**_parents("Owner", "Account", "ReportsTo", "RecordType"), "CreatedBy": Parent("createdBy", None)},
    "Opportunity": {
        **_parents("Owner", "Account", "Contact", "Campaign", "RecordType"),
        "Pricebook2": Parent("pricebookId", None),
        "CreatedBy": Parent("createdBy", None),
    },
    "User": {
        **_parents("Manager", "Profile", "UserRole"),
        "Account": Parent("accountId", None),
        "Contact": Parent("contactId", None),
        "CreatedBy": Parent("createdBy", None),
    },
}

_COMPOUND_ADDRESSES: Mapping[str, Mapping[str, str]] = {
    "Account": {"BillingAddress": "billing", "ShippingAddress": "shipping", "PersonMailingAddress": "personMailing"},
    "Contact": {"MailingAddress": "mailing", "OtherAddress": "other"},
    "Opportunity": {},
    "User": {"Address": ""},
}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What becomes of a field: *name* in the structured data and how its value is read."""

    name: str
    kind: str
    read: Reader


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """How the records of one object are mapped, laid out for reading record after record.

    *rules* holds a (name, reader) a field, None for those left out. *numbers* are the names that may hold numbers of
    many digits. *addresses* gives for a compound address the name of each of its parts. *currency_beside* is the name
    beside which the currency must stand, the connection's where the record tells none. Fields that begin with one of
    *settings* are left out.
    """

    object_type: str
    shard_type_id: str
    fields: Mapping[str, FieldRule]
    rules: Mapping[str, Rule | None]
    numbers: tuple[str, ...]
    parents: Mapping[str, Parent]
    addresses: Mapping[str, Mapping[str, str]]
    currency_beside: str | None
    settings: tuple[str, ...]


def _field_rules(lines: str) -> dict[str, FieldRule]:
    rules = {}
    for line in lines.splitlines():
        if line.strip():
            source, name, kind = line.split()
            rules[source] = FieldRule(name, kind, _READERS[kind])
    return rules


def _table(object_type: str, shard_type_id: str, lines: str, *, currency_beside: str | None = None) -> ObjectTable:
    fields = _field_rules(lines)
    names = {rule.name for rule in fields.values()}
    rules: dict[str, Rule | None] = {source: (rule.name, rule.read) for source, rule in fields.items()}
    rules.update(dict.fromkeys(LEFT_OUT | _LEFT_OUT_BY_OBJECT[object_type]))
    addresses = {}
    for compound, prefix in _COMPOUND_ADDRESSES[object_type].items():
        parts = {part: prefix + part[0].upper() + part[1:] if prefix else part for part in _ADDRESS_PARTS}
        addresses[compound] = {part: name for part, name in parts.items() if name in names}
    return ObjectTable(
        object_type=object_type,
        shard_type_id=shard_type_id,
        fields=fields,
        rules=rules,
        numbers=tuple(rule.name for rule in fields.values() if rule.kind in ("number", "integer")),
        parents=_PARENTS[object_type],
        addresses=addresses,
        currency_beside=currency_beside,
        settings=_SETTINGS.get(object_type, ()),
    )


TABLES: Mapping[str, ObjectTable] = {
    table.object_type: table
    for table in (
        _table("Account", "c_account", _ACCOUNT_FIELDS, currency_beside="annualRevenue"),
        _table("Contact", "c_contact", _CONTACT_FIELDS),
        _table("Opportunity", "c_opportunity", _OPPORTUNITY_FIELDS, currency_beside="name"),
        _table("User", "c_user", _USER_FIELDS),
    )
}
"""The objects with a shard type of their own."""
