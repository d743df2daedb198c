"""What a connection tells of its records reaches their shards."""

from chain_rig import ORG, TENANT, Rig, event, id_of, record_id

from connections.salesforce_connection import SalesforceAuth, SalesforceConnection


def _connection(default_currency: str | None) -> SalesforceConnection:
    return SalesforceConnection(
        connection_id="main",
        tenant_id=TENANT,
        system="salesforce",
        name="Main org",
        auth=SalesforceAuth(
            flow="client-credentials", domain="acme.my", consumer_key="key", consumer_secret=f"secret:{TENANT}/sf"
        ),
        instance=ORG,
        base_url="https://acme.my.salesforce.com",
        default_currency=default_currency,
    )


async def test_the_connection_tells_currency_and_address_of_its_records(rig: Rig) -> None:
    await rig.services.connections.save(_connection("EUR"))
    await rig.send(event("Opportunity", 1, 1, Name="Deal", StageName="Prospecting", Amount=5))
    await rig.drain()
    shard = await rig.store.get(TENANT, id_of("Opportunity", 1))
    assert shard is not None
    assert shard.structured_data["currency"] == "EUR"
    url = f"https://acme.my.salesforce.com/{record_id('Opportunity', 1)}"
    assert shard.external_relationships[0].external_url == url


async def test_a_record_that_names_its_currency_keeps_it(rig: Rig) -> None:
    await rig.services.connections.save(_connection("EUR"))
    await rig.send(event("Opportunity", 1, 1, Name="Deal", StageName="Prospecting", CurrencyIsoCode="JPY"))
    await rig.drain()
    shard = await rig.store.get(TENANT, id_of("Opportunity", 1))
    assert shard is not None
    assert shard.structured_data["currency"] == "JPY"


async def test_without_a_connection_there_is_no_address(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", StageName="Prospecting"))
    await rig.drain()
    shard = await rig.store.get(TENANT, id_of("Opportunity", 1))
    assert shard is not None
    assert shard.external_relationships[0].external_url is None
