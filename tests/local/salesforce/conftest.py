"""A small org served by the simulator, and simple-salesforce logged in to it."""

from collections.abc import Iterator

import pytest
from simple_salesforce.api import Salesforce

from local.company import Company, default_org_id
from local.salesforce.contacts import numbered_id
from local.salesforce.org import Org
from local.salesforce.schema import Field, empty_table
from local.salesforce.server import SalesforceSimulator


@pytest.fixture
def company() -> Company:
    """The four objects and no records; Account has the custom field Region__c."""
    tables = {name: empty_table(name) for name in ("Contact", "Opportunity", "User")}
    tables["Account"] = empty_table("Account", [Field("Region__c", "string")])
    return Company("acme", default_org_id("acme"), tables)


@pytest.fixture
def org(company: Company) -> Org:
    return Org(company)


@pytest.fixture
def simulator(org: Org) -> Iterator[SalesforceSimulator]:
    with SalesforceSimulator(org) as running:
        yield running


@pytest.fixture
def salesforce(simulator: SalesforceSimulator) -> Salesforce:
    credentials = simulator.credentials
    return Salesforce(
        consumer_key=credentials.consumer_key,
        consumer_secret=credentials.consumer_secret,
        domain="acme.my",
        session=simulator.session(),
    )


@pytest.fixture
def accounts(org: Org) -> list[str]:
    """Ids of five accounts, A to E, made in one second."""
    now = org.clock()
    return [
        org.create("Account", {"Id": numbered_id("001", number), "Name": name}, stamp=now)
        for number, name in enumerate("ABCDE")
    ]
