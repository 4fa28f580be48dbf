"""How images are read: the same settings, with the same defaults, for every command that reads them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from cryoformer.settings import Settings

# What was done before these settings were there: of runs and baselines that do not have them.
BEFORE: dict[str, Any] = {"soft_edges": "no"}


class ImageSettings(Settings):
    """What is done to images between disk and loss (:mod:`.preparation`), and where they are kept."""

    invert: Literal["auto", "yes", "no"] = Field(
        default="auto", description="Invert the contrast: yes for dark particles, no for white ones, auto to detect it"
    )
    normalise: bool = Field(default=True, description="Background of every image to mean 0 and deviation 1")
    ctf_applied: Literal["auto", "none", "phases", "multiplied"] = Field(
        default="auto",
        description="What was done to the images: nothing, phases flipped, multiplied by the CTF, or as the file says",
    )
    soft_edges: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="Let images end softly at their edges: yes, no, or auto where jumps there outweigh the noise",
    )
    memory_gib: float = Field(
        default=2.0, ge=0, description="Images are kept in memory if they fit into this, else read from disk as used"
    )
    device: str = Field(default="auto", description="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    seed: int = Field(default=0, description="Of everything random, the halves of the images included")

    @field_validator("invert", "soft_edges", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        """YAML takes ``no`` for false."""
        return ("yes" if value else "no") if isinstance(value, bool) else value

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> "ImageSettings":
        """Those among other settings, such as the ones that a run or a baseline recorded."""
        facts = BEFORE | dict(facts)
        return ImageSettings(**{name: facts[name] for name in ImageSettings.model_fields if name in facts})
