"""What all settings share: they are checked when they are made, never change, and have no names that nobody reads."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings, as YAML and ``--set`` give them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
