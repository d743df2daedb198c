"""The app itself, for tests that run its functions on services of their own."""

import os
from unittest.mock import patch

with patch.dict(os.environ, {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": "tests-give-their-own"}):
    from function_app import app

__all__ = ["app"]
