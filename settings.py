"""Every setting, read from the environment and checked at start. docs/configuration.md has a row for each."""

from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME_FILE = "home.env"
"""The file of a data folder that says how its local home runs; the local host writes it."""


class SettingsError(Exception):
    """A setting is missing or malformed; the message is one line that names it and says what to do."""


class Settings(BaseSettings):
    """The settings, named ``SHARDLINE_…`` in the environment."""

    model_config = SettingsConfigDict(env_prefix="SHARDLINE_", extra="ignore", frozen=True)

    home: Literal["local", "azure"] = Field(description="Where the app runs: `local` (only the local host sets it).")
    data_dir: Path | None = Field(default=None, description="The folder of the local bus and store files.")
    salesforce_simulator: HttpUrl | None = Field(
        default=None, description="Address of a Salesforce simulator on this machine, asked in place of Salesforce."
    )
    function_key: SecretStr | None = Field(
        default=None,
        description="The key that opens the operators' routes of the local host; without it they are closed.",
    )
    token_issuer: str = Field(default="shardline-local", description="The issuer that reader tokens must name.")
    token_audience: str = Field(default="shardline", description="The audience that reader tokens must name.")
    poll_schedule: str = Field(default="*/5 * * * * *", description="When due connections are looked for (NCRONTAB).")
    reconcile_schedule: str = Field(default="0 */1 * * * *", description="When what stayed behind is re-emitted.")
    reconcile_after_seconds: int = Field(
        default=120, ge=1, description="How long a shard's stages may stand still before they are re-emitted."
    )
    sweep_confirm_seconds: int = Field(
        default=600,
        ge=1,
        description="How long after a listing of ids that misses records the second one is made that confirms it.",
    )

    @field_validator("salesforce_simulator")
    @classmethod
    def _on_this_machine(cls, address: HttpUrl | None) -> HttpUrl | None:
        if address is not None and address.host not in {"127.0.0.1", "localhost", "[::1]"}:
            raise ValueError("a simulator must be on this machine: use an address like http://127.0.0.1:8100")
        return address

    @property
    def bus_file(self) -> Path:
        """The local bus's file."""
        return self._local_file("bus.db")

    @property
    def store_file(self) -> Path:
        """The local store's file."""
        return self._local_file("store.db")

    @property
    def token_key_file(self) -> Path:
        """The key that signs and checks reader tokens of the local home."""
        return self._local_file("token.key")

    def _local_file(self, name: str) -> Path:
        if self.data_dir is None:
            raise SettingsError("SHARDLINE_DATA_DIR is missing: name the folder for the local bus and store files")
        return self.data_dir / name


def load_settings(file: Path | None = None) -> Settings:
    """The settings of this process: of the environment, and below it of *file*.

    Raises:
        SettingsError: one is missing or malformed; a simulator is named where there is no local home.
    """
    try:
        settings = Settings(_env_file=file)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    if settings.home == "local":
        _ = settings.bus_file
    elif settings.salesforce_simulator is not None:
        raise SettingsError("SHARDLINE_SALESFORCE_SIMULATOR is set, but SHARDLINE_HOME is not local: remove it")
    return settings


def _one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_input=False, include_url=False):
        name = f"SHARDLINE_{str(problem['loc'][0]).upper()}"
        if problem["type"] == "missing":
            problems.append(f"{name} is missing: {Settings.model_fields[str(problem['loc'][0])].description}")
        else:
            problems.append(f"{name} is malformed: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
