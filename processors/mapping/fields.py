"""The fields of one object of a payload, read one by one; what is wrong with one is told under its name."""

from collections.abc import Mapping
from typing import Any, Self

from processors.mapping.record import INVALID_RECORD, MappingError
from processors.mapping.values import Reader, read_json, read_text


class Fields:
    """The fields of one object, of the record that *whose* names. Each read raises ``MappingError`` for what is wrong.

    *prefix* is where in the record the object is, as ``profile.``.
    """

    def __init__(self, whose: str, fields: Mapping[str, Any], prefix: str = "") -> None:
        self.whose = whose
        self.fields = fields
        self._prefix = prefix

    def wrong(self, name: str, problem: object) -> MappingError:
        """The error that *problem* with a field is."""
        return MappingError(INVALID_RECORD, f"{self.whose}: {self._prefix}{name[:80]}: {problem}")

    def read(self, name: str, reader: Reader) -> Any:
        """The value as *reader* gives it; None when there is none."""
        value = self.fields.get(name)
        if value is None:
            return None
        try:
            return reader(value)
        except ValueError as error:
            raise self.wrong(name, error) from None

    def text(self, name: str) -> str | None:
        """The text of that name; None when there is none."""
        value: str | None = self.read(name, read_text)
        return value

    def custom(self, name: str, exact: dict[str, str]) -> Any:
        """The value as ``customFields`` keep it; None when it says nothing. Its numbers that want it go to *exact*."""
        return self.read(name, lambda value: read_json(value, exact, f"customFields.{name}"))

    def inner(self, name: str) -> Self:
        """The object of that name; an empty one when there is none."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(name, "is no object")
        return type(self)(self.whose, value or {}, f"{self._prefix}{name}.")

    def objects(self, name: str) -> list[Mapping[str, Any]]:
        """The list of objects of that name; empty when there is none."""
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise self.wrong(name, "is no list of objects")
        return value
