"""Secrets are references, and a reference resolves only inside its own tenant's space."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

_REFERENCE = re.compile(r"secret:(?P<tenant>[^/\s]+)/(?P<name>[^/\s]+)\Z")
_PLAIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")


class SecretError(Exception):
    """A secret can't be had. The message names the reference and what to do, never a value."""


class SecretsUnavailableError(Exception):
    """The store of secrets did not answer, or answers nobody: nothing is told of the secret; ask again later."""


class Secret:
    """A secret value that does not show itself: neither str() nor repr() nor an f-string gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class SecretStore(Protocol):
    """Resolves references of the form ``secret:<tenant>/<name>``."""

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        """The secret that *reference* names in the space of *tenant_id*; *fresh* passes by any cache.

        Raises:
            SecretError: the reference is malformed or another tenant's, or there is no such secret.
            SecretsUnavailableError: the store is away.
        """

    async def close(self) -> None:
        """Give back connections."""


def secret_name(tenant_id: str, reference: str) -> str:
    """The name within *tenant_id* that *reference* stands for.

    Raises:
        SecretError: the reference is malformed, or of another tenant.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        # What stands where a reference should is likely the secret itself: it must not be repeated.
        raise SecretError(f"a secret is given by reference, as secret:{tenant_id}/<name>; this is none")
    if match["tenant"] != tenant_id:
        raise SecretError(f"{reference} is outside the space of tenant {tenant_id}")
    return match["name"]


class EnvironmentSecrets:
    """Secrets in the environment: ``secret:acme-eu/sf-key`` is the variable ``SHARDLINE_SECRET_ACME_EU__SF_KEY``.

    See :func:`environment_variable` for the rule.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:  # noqa: ARG002 - the port's
        variable = environment_variable(tenant_id, secret_name(tenant_id, reference))
        value = self._environment.get(variable)
        if not value:
            raise SecretError(f"{reference} is not set: put its value into the environment variable {variable}")
        return Secret(value)

    async def close(self) -> None:
        """Nothing is kept open."""


class FolderSecrets:
    """The one-machine twin: a secret is a file of *folder*, called as the variable of :func:`environment_variable`;
    where there is none, that variable.

    The file is read each time, so that all processes of a home have a new value at once.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = os.environ if environment is None else environment

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:  # noqa: ARG002 - the port's
        variable = environment_variable(tenant_id, secret_name(tenant_id, reference))
        file = self._folder / variable
        value = _text_of(file) or self._environment.get(variable)
        if not value:
            raise SecretError(
                f"{reference} is not set: put its value into the file {file}, or into the environment variable "
                f"{variable} of the process that runs the app"
            )
        return Secret(value)

    async def close(self) -> None:
        """Nothing is kept open."""


def keep_secret(folder: Path, variable: str, value: str) -> Path:
    """Put *value* into the file of *folder* that :class:`FolderSecrets` finds it in, for its owner alone; that file."""
    folder.mkdir(mode=0o700, exist_ok=True)
    # It gets its name only once it is whole: an empty one would never be asked for again.
    made = folder / f".{variable}.new"
    made.touch(mode=0o600)
    made.write_text(value)
    return made.replace(folder / variable)


def _text_of(file: Path) -> str | None:
    """What *file* holds, without the line break that editors put behind a single line; None where it can't be there.

    Raises:
        SecretError: it is there, and can't be read.
    """
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SecretError(f"the file {file} is no text in UTF-8: write the secret's value into it anew") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise SecretError(f"the file {file} can't be read ({error.strerror}): mend it, or take it away") from None
    line = text.removesuffix("\n").removesuffix("\r")
    return text if "\n" in line else line


def environment_variable(tenant_id: str, name: str) -> str:
    """The variable that holds the secret *name* of *tenant_id*; no two references share one.

    Tenant and name in lower-case letters, digits and single dashes are upper-cased, with underscores for dashes; any
    other is an underscore and the hexadecimal digits of its UTF-8 bytes. Two underscores part tenant and name.
    """
    return f"SHARDLINE_SECRET_{_part(tenant_id)}__{_part(name)}"


def _part(text: str) -> str:
    if _PLAIN.match(text):
        return text.upper().replace("-", "_")
    return "_" + text.encode(errors="surrogatepass").hex().upper()
