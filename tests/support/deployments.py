"""The deployments that tests look at: the parameters of the smallest, of the largest, and of what lies between."""

from typing import Any, Final

_GIVEN: Final[dict[str, Any]] = {
    "environmentName": "trial",
    "location": "swedencentral",
    "tokenIssuer": "https://login.example.com/acme",
    "tokenAudience": "api://shardline",
    "tokenKeysUrl": "https://login.example.com/acme/keys",
}
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "as it comes": _GIVEN,
    "with an operator": _GIVEN
    | {"operatorPrincipalId": "22222222-2222-2222-2222-222222222222", "alertEmail": "a@b.example"},
    "isolated": _GIVEN
    | {
        "isolateNetwork": True,
        "operatorPrincipalId": "33333333-3333-3333-3333-333333333333",
        "operatorPrincipalType": "Group",
        "cosmosCapacity": "autoscale",
        "cosmosMaxThroughput": 10000,
        "cosmosConsistency": "Strong",
        "manageQueues": True,
        "alwaysReadyHttpInstances": 0,
        "instanceMemoryMB": 4096,
    },
}
