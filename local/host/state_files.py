"""What triggers remember over a restart: one small JSON file a function, replaced whole or not at all."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from local.host.errors import HostError

_UNSAFE: Final = re.compile(r"[^\w.-]")


class StateFile:
    """A JSON object in a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{_UNSAFE.sub('_', name)}.json"

    def read(self) -> dict[str, Any] | None:
        """The object, None when nothing has been written.

        Raises:
            HostError: the file is there but holds no JSON object.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HostError(f"{self.path} can't be read ({error}); remove it to begin anew") from None
        if not isinstance(content, dict):
            raise HostError(f"{self.path} holds no JSON object; remove it to begin anew")
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Put *content* in place of what was there, in one step that a crash can't cut in half."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
