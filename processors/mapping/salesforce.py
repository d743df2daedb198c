"""Salesforce records as shards: Account, Contact, Opportunity and User by their tables, any other object by one rule.

What no table names is kept under Salesforce's own name in ``customFields``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from messaging.contracts import EventType
from processors.mapping.record import INVALID_RECORD, UNKNOWN_OBJECT_TYPE, Mapped, MappingError
from processors.mapping.salesforce_fields import LEFT_OUT, TABLES, ObjectTable, Rule
from processors.mapping.values import (
    Reader,
    exact_text,
    lower_snake,
    read_boolean,
    read_date,
    read_json,
    read_moment,
    read_number,
    read_salesforce_id,
    read_text,
)
from shards.identity import InvalidExternalIdError, salesforce_id
from shards.model import TENANT_PRINCIPAL, Acl
from shards.types import SALESFORCE_KEY_PREFIXES, fitting_name, open_type_id, shard_type

_TENANT_ACL = Acl.of(TENANT_PRINCIPAL)
_CANONICAL_OBJECT_TYPES = {name.lower(): name for name in TABLES}
_OBJECT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z")
_NO_RECORDS = re.compile(r"(?:AggregateResult|.*ChangeEvent|.*__e)\Z")
_ABSOLUTE_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]+)?(?=/)")
_UNKNOWN: Rule = ("", read_text)


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


def stored_values(object_type: str, fields: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """What is stored of single *fields* of a record, by place in the structured data; None: nothing.

    Fields that are left out have no place, and neither have values that would have their record parked.
    """
    table = TABLES.get(object_type)
    rules: Mapping[str, Rule | None] = table.rules if table else {**dict.fromkeys(LEFT_OUT), **_OPEN_FIELDS}
    settings = table.settings if table else ()
    stored: dict[tuple[str, ...], Any] = {}
    for field, value in fields.items():
        rule = rules.get(field, _UNKNOWN)
        if rule is None or (settings and field.startswith(settings)):
            continue
        try:
            if rule is _UNKNOWN:
                stored["customFields", field] = read_json(value, {}, field)
            else:
                name, read = rule
                stored[name,] = None if value is None else read(value)
        except ValueError:
            continue
    return stored


def known_fields(object_type: str) -> Iterable[str]:
    """The API names of the standard fields that mean something here."""
    table = TABLES.get(object_type)
    return table.rules if table else (*LEFT_OUT, *_OPEN_FIELDS, *_OPEN_NAMES)


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
    nested: dict[str, Mapping[str, Any]] = {}
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
            elif value.__class__ is dict and (field in table.parents or field in table.addresses):
                nested[field] = value
            elif not field.startswith(table.settings):
                _keep(field, value, custom, exact)
        for field, inner in nested.items():
            _fill_from_nested(table, field, inner, data)
    except ValueError as error:
        detail = f"{table.object_type} {external_id}: {field[:80]}: {error}"
        raise MappingError(INVALID_RECORD, detail) from None
    _finish(table, data, default_currency)
    _add_exact(table.numbers, data, exact)
    return _with_extras(data, custom, exact)


def _add_exact(names: Iterable[str], data: Mapping[str, Any], exact: dict[str, str]) -> None:
    for name in names:
        number = data.get(name)
        if number is not None and (text := exact_text(number)) is not None:
            exact[name] = text


def _with_extras(data: dict[str, Any], custom: dict[str, Any], exact: dict[str, str]) -> dict[str, Any]:
    if custom:
        data["customFields"] = custom
    if exact:
        data["exactNumbers"] = exact
    return data


def _keep(field: str, value: Any, custom: dict[str, Any], exact: dict[str, str]) -> None:
    """Keep a field without a name of ours; the records of a child subquery are not this record's own."""
    if "\x00" in field:
        raise ValueError("the name has a NUL in it")
    if value.__class__ is dict:
        if "totalSize" in value and "records" in value:
            return
        value = {key: inner for key, inner in value.items() if key != "attributes"}
    stored = read_json(value, exact, f"customFields.{field}")
    if stored is not None:
        custom[field] = stored


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
    """A reader of references to *object_type* alone: an OwnerId, for one, may be a queue's."""
    prefix = next(key for key, known in SALESFORCE_KEY_PREFIXES.items() if known.object_type == object_type)

    def read(value: Any) -> str | None:
        reference = read_salesforce_id(value)
        if reference is not None and not reference.startswith(prefix):
            raise ValueError(f"{reference} is no {object_type}")
        return reference

    return read


_OPEN_FIELDS: Mapping[str, Rule] = {
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
            if value is None or field in LEFT_OUT:
                continue
            if field == "Owner" and value.__class__ is dict:
                owner_name = value.get("Name")
                if owner_name is not None and (text := read_text(owner_name)) is not None:
                    data["ownerName"] = text
                continue
            rule = _OPEN_FIELDS.get(field)
            if rule is None or not _took(rule, value, data):
                _keep(field, value, custom, exact)
    except ValueError as error:
        detail = f"{object_type} {external_id}: {field[:80]}: {error}"
        raise MappingError(INVALID_RECORD, detail) from None
    name = data.get("name") or next((custom[key] for key in _OPEN_NAMES if isinstance(custom.get(key), str)), None)
    data["name"] = fitting_name(name) if name else shard_type(shard_type_id).stand_in_name
    if default_currency and "amount" in data:
        data.setdefault("currency", default_currency)
    _add_exact(("amount",), data, exact)
    return _with_extras(data, custom, exact)


def _took(rule: Rule, value: Any, data: dict[str, Any]) -> bool:
    """Whether *value* is what the rule reads and went into *data*; an org's own object may use the name otherwise."""
    name, read = rule
    try:
        stored = read(value)
    except ValueError:
        return False
    if stored is not None:
        data[name] = stored
    return True
