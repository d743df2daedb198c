"""What every store of secrets does. A store's own test class inherits this and gives it the two fixtures it uses."""

from collections.abc import Awaitable, Callable

import pytest

from connections.secrets import Secret, SecretError, SecretStore

PLANTED = "planted-value-7f3a"

Keep = Callable[[str, str, str], Awaitable[None]]
"""Puts the value (third) of a tenant's (first) secret (second) where the store finds it."""


class SecretStoreContract:
    """The tests; ``secrets`` is an empty store, ``keep`` a :data:`Keep`."""

    async def test_a_reference_resolves_to_the_value(self, secrets: SecretStore, keep: Keep) -> None:
        await keep("acme-eu", "sf-key", PLANTED)

        assert await secrets.get("acme-eu", "secret:acme-eu/sf-key") == Secret(PLANTED)

    @pytest.mark.parametrize("value", ["x", "Ünïcode 東京", "-----BEGIN KEY-----\nab\ncd\n", "a" * 10_000])
    async def test_any_text_comes_back_as_it_is(self, secrets: SecretStore, keep: Keep, value: str) -> None:
        await keep("acme", "key", value)

        assert (await secrets.get("acme", "secret:acme/key")).reveal() == value

    async def test_another_tenants_reference_is_refused_even_when_its_value_is_there(
        self, secrets: SecretStore, keep: Keep
    ) -> None:
        await keep("other", "sf-key", PLANTED)

        with pytest.raises(SecretError, match="outside the space of tenant acme") as refused:
            await secrets.get("acme", "secret:other/sf-key")

        assert PLANTED not in str(refused.value)

    @pytest.mark.parametrize(
        ("tenant", "name", "others"),
        [
            ("acme", "eu-key", ("acme-eu", "key")),
            ("acme", "eu--key", ("acme--eu", "key")),
            ("acme", "Key", ("acme", "key")),
            ("Acme", "key", ("acme", "key")),
            ("müller", "key", ("m=c3=bcller", "key")),
            ("acme", "k" * 300, ("acme", "k" * 301)),
        ],
    )
    async def test_references_that_look_alike_stay_apart(
        self, secrets: SecretStore, keep: Keep, tenant: str, name: str, others: tuple[str, str]
    ) -> None:
        await keep(*others, PLANTED)

        with pytest.raises(SecretError):
            await secrets.get(tenant, f"secret:{tenant}/{name}")
        await keep(tenant, name, "ours")
        assert (await secrets.get(tenant, f"secret:{tenant}/{name}")).reveal() == "ours"
        assert (await secrets.get(others[0], f"secret:{others[0]}/{others[1]}")).reveal() == PLANTED

    @pytest.mark.parametrize(
        "reference", [PLANTED, "secret:acme/a/b", "secret:acme", "secret:/x", "secret:acme/../b x"]
    )
    async def test_what_is_no_reference_is_refused_and_not_repeated(self, secrets: SecretStore, reference: str) -> None:
        with pytest.raises(SecretError) as refused:
            await secrets.get("acme", reference)

        assert PLANTED not in str(refused.value)

    async def test_a_changed_value_is_there_for_who_asks_afresh(self, secrets: SecretStore, keep: Keep) -> None:
        await keep("acme", "key", "before")
        assert (await secrets.get("acme", "secret:acme/key")).reveal() == "before"

        await keep("acme", "key", "after")

        assert (await secrets.get("acme", "secret:acme/key", fresh=True)).reveal() == "after"
        assert (await secrets.get("acme", "secret:acme/key")).reveal() == "after"

    async def test_a_missing_secret_is_named(self, secrets: SecretStore) -> None:
        with pytest.raises(SecretError, match="secret:acme/sf-key"):
            await secrets.get("acme", "secret:acme/sf-key")
