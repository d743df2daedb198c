"""The contract's assertions explain themselves as those of test modules do."""

import pytest

pytest.register_assert_rewrite("blob_store_contract", "parked_messages_contract", "shard_store_contract")
