"""The fingerprint is the same for the same content, however it is put together, and another for any other."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from messaging import codec
from shards.model import Acl, UnstructuredData, content_fingerprint

ACL = Acl.of("tenant")
data = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def reversed_keys(value: Any) -> Any:
    """The same value, put together in another order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(data)
def test_the_order_of_keys_and_a_way_through_the_store_change_nothing(content: dict[str, Any]) -> None:
    fingerprint = content_fingerprint(content, None, ACL, "active")
    assert content_fingerprint(reversed_keys(content), None, ACL, "active") == fingerprint
    assert content_fingerprint(codec.decode(codec.encode(content)), None, ACL, "active") == fingerprint


@given(data, data)
def test_other_content_has_another_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = codec.canonical(one) == codec.canonical(other)
    assert same == (content_fingerprint(one, None, ACL, "active") == content_fingerprint(other, None, ACL, "active"))


def test_each_part_counts() -> None:
    content = {"name": "Acme", "amount": Decimal("1.50")}
    variants = [
        content_fingerprint(content, None, ACL, "active"),
        content_fingerprint({**content, "amount": Decimal("1.51")}, None, ACL, "active"),
        content_fingerprint(content, UnstructuredData(text="text"), ACL, "active"),
        content_fingerprint(content, UnstructuredData(content_ref="text"), ACL, "active"),
        content_fingerprint(content, None, Acl.of("tenant", "user:ann@acme.example"), "active"),
        content_fingerprint(content, None, ACL, "deleted"),
        content_fingerprint(content, None, ACL, "active", "sh_other"),
    ]
    assert len(set(variants)) == len(variants)


def test_an_acl_is_its_set_of_principals() -> None:
    assert Acl.of("b", "a", "b") == Acl.of("a", "b")
    assert Acl.of("a", "b").scope != Acl.of("a").scope != Acl.of().scope
