"""Salesforce records as shards: Account, Contact, Opportunity and User by tables of fields, any other object by one rule.

The tables are read once, at import. What a table does not name is kept under Salesforce's own name in ``customFields``.
Fields that move without meaning (who looked last, when a process touched the row) are left out, so that a record that
says the same has the same fingerprint.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from messaging.contracts import EventType
from processors.mapping.record import INVALID_RECORD, UNKNOWN_OBJECT_TYPE, Mapped, MappingError
from processors.mapping.values import (
    Reader,
    exact_text,
    lower_snake,
    read_boolean,
    read_date,
    read_integer,
    read_json,
    read_moment,
    read_number,
    read_salesforce_id,
    read_text,
    read_word,
    read_words,
)
from shards.identity import InvalidExternalIdError, salesforce_id
from shards.model import TENANT_PRINCIPAL, Acl
from shards.types import SALESFORCE_KEY_PREFIXES, fitting_name, open_type_id, shard_type

_TENANT_ACL = Acl.of(TENANT_PRINCIPAL)

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


_Rule = tuple[str, Reader]

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

_LEFT_OUT = frozenset(
    """attributes Id id IsDeleted MasterRecordId deletedDate
    SystemModstamp LastModifiedDate LastModifiedById LastModifiedBy LastActivityDate LastViewedDate LastReferencedDate
    """.split()
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

_USER_SETTINGS = ("UserPreferences", "UserPermissions")
"""Prefixes of User's many switches, which say how a person likes the screen, not who they are."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """A relationship field: the parent record's Id and Name are taken from the object in it."""

    id_field: str | None
    name_field: str | None


def _parents(*names: str) -> dict[str, _Parent]:
    """``Account`` fills ``accountId`` and ``accountName``, when the record itself does not."""
    made = {}
    for name in names:
        stem = name[0].lower() + name[1:]
        made[name] = _Parent(f"{stem}Id", f"{stem}Name")
    return made


_PARENTS: Mapping[str, Mapping[str, _Parent]] = {
    "Account": {**_parents("Owner", "Parent", "RecordType"), "CreatedBy": _Parent("createdBy", None)},
    "Contact": {**_parents("Owner", "Account", "ReportsTo", "RecordType"), "CreatedBy": _Parent("createdBy", None)},
    "Opportunity": {
        **_parents("Owner", "Account", "Contact", "Campaign", "RecordType"),
        "Pricebook2": _Parent("pricebookId", None),
        "CreatedBy": _Parent("createdBy", None),
    },
    "User": {
        **_parents("Manager", "Profile", "UserRole"),
        "Account": _Parent("accountId", None),
        "Contact": _Parent("contactId", None),
        "CreatedBy": _Parent("createdBy", None),
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
    beside which the currency must stand, the connection's where the record tells none.
    """

    object_type: str
    shard_type_id: str
    fields: Mapping[str, FieldRule]
    rules: Mapping[str, _Rule | None]
    numbers: tuple[str, ...]
    parents: Mapping[str, _Parent]
    addresses: Mapping[str, Mapping[str, str]]
    currency_beside: str | None


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
    rules: dict[str, _Rule | None] = {source: (rule.name, rule.read) for source, rule in fields.items()}
    rules.update(dict.fromkeys(_LEFT_OUT | _LEFT_OUT_BY_OBJECT[object_type]))
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

_CANONICAL_OBJECT_TYPES = {name.lower(): name for name in TABLES}
_OBJECT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z")
_NO_RECORDS = re.compile(r"(?:AggregateResult|.*ChangeEvent|.*__e)\Z")
_ABSOLUTE_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]+)?(?=/)")
_UNKNOWN: _Rule = ("", read_text)


def map_record(
    object_type: str | None,
    payload: Mapping[str, Any],
    event_type: EventType,
    source_id: str | None,
    default_currency: str | None,
) -> Mapped:
    """A whole record, or for a delete at least its Id, as its shard needs it.

    The object is *object_type*, else what ``attributes`` says, else what the key prefix of the id says.

    Raises:
        MappingError: ``unknown-object-type`` or ``invalid-record``.
    """
    attributes = payload.get("attributes")
    if not isinstance(attributes, Mapping):
        attributes = {}
    external_id = _record_id(payload, source_id)
    kind = _object_type(object_type, attributes, external_id)
    table = TABLES.get(kind)
    try:
        deleted = event_type == "delete" or _is_deleted(payload)
        version = _moment(payload, "SystemModstamp") or (_moment(payload, "deletedDate") if deleted else None)
        modified = _moment(payload, "LastModifiedDate")
        created = _moment(payload, "CreatedDate")
        activity = _activity_day(payload)
        merged_into = _merged_into(payload, external_id) if deleted else None
    except ValueError as error:
        raise MappingError(INVALID_RECORD, f"{kind} {external_id}: {error}") from None
    if table is not None:
        shard_type_id = table.shard_type_id
        data = {} if deleted else _structured_data(table, external_id, payload, default_currency)
    else:
        shard_type_id = open_type_id(kind)
        data = {} if deleted else _open_data(shard_type_id, kind, external_id, payload, default_currency)
    url = attributes.get("url")
    base = _ABSOLUTE_URL.match(url) if isinstance(url, str) else None
    return Mapped(
        shard_type_id=shard_type_id,
        object_type=kind,
        external_id=external_id,
        structured_data=data,
        acl=_TENANT_ACL,
        external_url=f"{base[0]}/{external_id}" if base else None,
        last_activity_at=max(activity, modified or "", created or "") or None,
        created_at=created,
        deleted=deleted,
        merged_into_external_id=merged_into,
        source_version=version or modified or "",
    )


def _record_id(payload: Mapping[str, Any], source_id: str | None) -> str:
    value = payload.get("Id") or payload.get("id") or source_id
    if not isinstance(value, str) or not value:
        raise MappingError(INVALID_RECORD, "the record has no Id")
    try:
        return salesforce_id(value)
    except InvalidExternalIdError as error:
        raise MappingError(INVALID_RECORD, f"Id: {error}") from None


def _object_type(given: str | None, attributes: Mapping[str, Any], external_id: str) -> str:
    name = given or attributes.get("type")
    if not name or not isinstance(name, str):
        prefix = SALESFORCE_KEY_PREFIXES.get(external_id[:3])
        if prefix is None:
            raise MappingError(
                UNKNOWN_OBJECT_TYPE,
                f"{external_id} names no object, and no object is known by the key prefix {external_id[:3]}: "
                "send objectType",
            )
        return prefix.object_type
    if name in TABLES:
        return name
    if not _OBJECT_TYPE.match(name) or _NO_RECORDS.match(name):
        raise MappingError(UNKNOWN_OBJECT_TYPE, f"{name[:80]!r} is no object with records")
    return _CANONICAL_OBJECT_TYPES.get(name.lower(), name)


def _moment(payload: Mapping[str, Any], field: str) -> str | None:
    value = payload.get(field)
    if value is None:
        return None
    try:
        return read_moment(value)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _activity_day(payload: Mapping[str, Any]) -> str:
    value = payload.get("LastActivityDate")
    if value is None:
        return ""
    try:
        day = read_date(value)
    except ValueError as error:
        raise ValueError(f"LastActivityDate: {error}") from None
    return f"{day}T00:00:00.000Z" if day else ""


def _is_deleted(payload: Mapping[str, Any]) -> bool:
    value = payload.get("IsDeleted")
    if value is None or value is False:
        return False
    try:
        return bool(read_boolean(value))
    except ValueError as error:
        raise ValueError(f"IsDeleted: {error}") from None


def _merged_into(payload: Mapping[str, Any], external_id: str) -> str | None:
    value = payload.get("MasterRecordId")
    if value is None:
        return None
    try:
        winner = read_salesforce_id(value)
    except ValueError as error:
        raise ValueError(f"MasterRecordId: {error}") from None
    return winner if winner != external_id else None


def _structured_data(
    table: ObjectTable, external_id: str, payload: Mapping[str, Any], default_currency: str | None
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    exact: dict[str, str] = {}
    nested: list[tuple[str, Mapping[str, Any]]] = []
    rules = table.rules
    field = ""
    try:
        for field, value in payload.items():
            if value is None:
                continue
            rule = rules.get(field, _UNKNOWN)
            if rule is None:
                continue
            if rule is not _UNKNOWN:
                name, read = rule
                stored = read(value)
                if stored is not None:
                    data[name] = stored
            elif isinstance(value, Mapping) and (field in table.parents or field in table.addresses):
                nested.append((field, value))
            elif table.object_type != "User" or not field.startswith(_USER_SETTINGS):
                stored = _custom_value(field, value, exact)
                if stored is not None:
                    custom[field] = stored
        for field, inner in nested:
            _fill_from_nested(table, field, inner, data)
    except ValueError as error:
        detail = f"{table.object_type} {external_id}: {field[:80]}: {error}"
        raise MappingError(INVALID_RECORD, detail) from None
    _finish(table, data, default_currency)
    for name in table.numbers:
        number = data.get(name)
        if number is not None:
            text = exact_text(number)
            if text is not None:
                exact[name] = text
    if custom:
        data["customFields"] = custom
    if exact:
        data["exactNumbers"] = exact
    return data


def _custom_value(field: str, value: Any, exact: dict[str, str]) -> Any:
    """The value of a field without a name of ours; the records of a child subquery are not this record's own."""
    if "\x00" in field:
        raise ValueError("the name has a NUL in it")
    if isinstance(value, Mapping):
        if "totalSize" in value and "records" in value:
            return None
        value = {key: inner for key, inner in value.items() if key != "attributes"}
    return read_json(value, exact, f"customFields.{field}")


def _fill_from_nested(table: ObjectTable, field: str, inner: Mapping[str, Any], data: dict[str, Any]) -> None:
    """What a relationship or compound address tells and the record's own fields do not."""
    parent = table.parents.get(field)
    if parent is not None:
        name, identifier = inner.get("Name"), inner.get("Id")
        if parent.name_field and name is not None and (text := read_text(name)) is not None:
            data[parent.name_field] = text
        if parent.id_field and parent.id_field not in data and identifier is not None:
            reference = read_salesforce_id(identifier)
            if reference is not None:
                data[parent.id_field] = reference
        return
    for part, name in table.addresses[field].items():
        value = inner.get(part)
        if value is None or name in data:
            continue
        stored = read_number(value) if part in ("latitude", "longitude") else read_text(value)
        if stored is not None:
            data[name] = stored


def _finish(table: ObjectTable, data: dict[str, Any], default_currency: str | None) -> None:
    """What no single field tells: a name for everyone, the stage and outcome of a deal, the currency of money."""
    name = data.get("name") or _name_of_person(data)
    data["name"] = fitting_name(name) if name else shard_type(table.shard_type_id).stand_in_name
    if default_currency and table.currency_beside in data:
        data.setdefault("currency", default_currency)
    if table.object_type == "Opportunity":
        stage_name = data.get("stageName")
        if stage_name:
            data["stage"] = lower_snake(stage_name)
        status = _status(data)
        if status:
            data["status"] = status


def _name_of_person(data: Mapping[str, Any]) -> str | None:
    parts = (data.get(field) for field in ("firstName", "middleName", "lastName", "suffix"))
    name = " ".join(part for part in parts if part)
    return name or data.get("email") or data.get("username")


def _status(data: Mapping[str, Any]) -> str | None:
    """Won, lost or open by IsWon and IsClosed, else by a standard closed stage; None when nothing tells."""
    is_won, is_closed, stage = data.get("isWon"), data.get("isClosed"), data.get("stage")
    if is_won or (is_won is None and stage == "closed_won"):
        return "won"
    if is_closed or (is_closed is None and stage == "closed_lost"):
        return "lost"
    return "open" if is_closed is False or (is_closed is None and stage) else None


def _read_id_of(object_type: str) -> Reader:
    """A reader of references to *object_type* alone: elsewhere OwnerId may be a queue's, AccountId of another object."""
    prefix = next(key for key, known in SALESFORCE_KEY_PREFIXES.items() if known.object_type == object_type)

    def read(value: Any) -> str | None:
        reference = read_salesforce_id(value)
        if reference is not None and not reference.startswith(prefix):
            raise ValueError(f"{reference} is no {object_type}")
        return reference

    return read


_OPEN_FIELDS: Mapping[str, _Rule] = {
    "Name": ("name", read_text),
    "Description": ("description", read_text),
    "Amount": ("amount", read_number),
    "CurrencyIsoCode": ("currency", read_text),
    "OwnerId": ("ownerId", _read_id_of("User")),
    "AccountId": ("accountId", _read_id_of("Account")),
    "ContactId": ("contactId", _read_id_of("Contact")),
    "CreatedDate": ("createdDate", read_moment),
    "CreatedById": ("createdBy", read_salesforce_id),
}
"""The standard fields that a record of any object may have."""

_OPEN_NAMES = ("Subject", "Title", "CaseNumber", "ContractNumber", "OrderNumber", "MasterLabel")
"""What an object without a Name goes by, the first that is there."""


def _open_data(
    shard_type_id: str, object_type: str, external_id: str, payload: Mapping[str, Any], default_currency: str | None
) -> dict[str, Any]:
    """A record of an object without a table: a standard field that is what it should be by our name, all else kept."""
    data: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    exact: dict[str, str] = {}
    field = ""
    try:
        for field, value in payload.items():
            if value is None or field in _LEFT_OUT:
                continue
            if field == "Owner" and isinstance(value, Mapping):
                if (owner_name := value.get("Name")) is not None and (text := read_text(owner_name)) is not None:
                    data["ownerName"] = text
                continue
            rule = _OPEN_FIELDS.get(field)
            if rule is None or not _took(rule, value, data):
                stored = _custom_value(field, value, exact)
                if stored is not None:
                    custom[field] = stored
    except ValueError as error:
        detail = f"{object_type} {external_id}: {field[:80]}: {error}"
        raise MappingError(INVALID_RECORD, detail) from None
    name = data.get("name") or next((custom[key] for key in _OPEN_NAMES if isinstance(custom.get(key), str)), None)
    data["name"] = fitting_name(name) if name else shard_type(shard_type_id).stand_in_name
    if default_currency and "amount" in data:
        data.setdefault("currency", default_currency)
    amount_text = exact_text(data["amount"]) if "amount" in data else None
    if amount_text is not None:
        exact["amount"] = amount_text
    if custom:
        data["customFields"] = custom
    if exact:
        data["exactNumbers"] = exact
    return data


def _took(rule: _Rule, value: Any, data: dict[str, Any]) -> bool:
    """Whether *value* is what the rule reads and went into *data*; an org's own object may use the name otherwise."""
    name, read = rule
    try:
        stored = read(value)
    except ValueError:
        return False
    if stored is not None:
        data[name] = stored
    return True
