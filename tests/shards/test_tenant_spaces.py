"""The part of a reference that names a tenant tells the tenant again, or says that it can't."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.blobs import LONGEST_SPACE, blob_reference, space_of, tenant_of_space, tenant_space


@settings(max_examples=200)
@given(tenant_id=st.text(st.characters(exclude_categories=()), min_size=1, max_size=150))
def test_a_space_tells_its_tenant_unless_it_was_cut(tenant_id: str) -> None:
    space = tenant_space(tenant_id)
    assert space_of(blob_reference(tenant_id, b"x")) == space
    told = tenant_of_space(space)
    assert told == tenant_id or (told is None and len(space) == LONGEST_SPACE)
    assert told is not None or "==" in space


@settings(max_examples=200)
@given(space=st.text("ab=0-A.", max_size=12))
def test_what_is_no_space_is_no_tenants(space: str) -> None:
    told = tenant_of_space(space)
    assert told is None or tenant_space(told) == space
