"""The Functions app: checks the settings and registers the blueprints."""

import azure.functions as func

from api.blueprint import blueprint as api
from ingestion.blueprint import blueprint as ingestion
from operations.blueprint import blueprint as operations
from processors.blueprint import blueprint as chain
from settings import load_settings

# A wrong setting stops the app here, before it takes messages that it could only fail.
load_settings()

app = func.FunctionApp()
for blueprint in (api, ingestion, chain, operations):
    app.register_functions(blueprint)
