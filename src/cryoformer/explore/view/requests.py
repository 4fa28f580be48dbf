"""What the page may ask of the live connection, checked on arrival."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cryoformer.explore.view.decoder import Detail

Place = tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class State(_Message):
    """A place of the latent space, given by ``map`` and ``at``, by ``path`` and ``place``, or by ``particle``."""

    map: str | None = None
    at: Place | None = None
    path: str | None = None
    place: Share | None = None
    particle: Annotated[int, Field(ge=0)] | None = None


class _Request(_Message):
    panel: Annotated[str, Field(max_length=32)]
    serial: int
    state: State
    detail: Detail = "live"


class SurfaceRequest(_Request):
    """The isosurface of a state; ``level`` counts standard deviations of the run's mean density."""

    kind: Literal["surface"]
    level: Annotated[float, Field(allow_inf_nan=False)]
    colour: Annotated[str, Field(max_length=64)] | None = None
    dust: bool = False


class DifferenceRequest(_Request):
    """Surfaces of what a state has more (and less) than another, at plus and minus ``level``."""

    kind: Literal["difference"]
    minus: State
    level: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class SliceRequest(_Request):
    """Three planes through a state's density, or through its difference from another state, across x, y and z."""

    kind: Literal["slice"]
    places: tuple[Share, Share, Share]
    minus: State | None = None


class MapRequest(_Message):
    """The density of a state, or what it has more than another, as a file."""

    state: State
    minus: State | None = None


LiveRequest = Annotated[SurfaceRequest | DifferenceRequest | SliceRequest, Field(discriminator="kind")]
live_request: TypeAdapter[SurfaceRequest | DifferenceRequest | SliceRequest] = TypeAdapter(LiveRequest)
