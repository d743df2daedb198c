"""The Functions app: registers the blueprints."""

import azure.functions as func

from api.blueprint import blueprint as api
from ingestion.blueprint import blueprint as ingestion
from operations.blueprint import blueprint as operations
from processors.blueprint import blueprint as chain

app = func.FunctionApp()
for blueprint in (api, ingestion, chain, operations):
    app.register_functions(blueprint)
