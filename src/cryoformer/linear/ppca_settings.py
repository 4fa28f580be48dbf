"""Settings of the linear model (:mod:`.ppca`)."""

from pydantic import Field

from cryoformer.settings import Settings


class PPCASettings(Settings):
    """Stage B: at which box, with how many components, over how many images and steps."""

    box: int = Field(default=32, ge=8, description="Box the images are Fourier-cropped to (at most their own)")
    dimension: int = Field(default=6, ge=1, le=32, description="Components to start with; those without support vanish")
    images: int = Field(default=50_000, ge=100, description="Images that the EM goes over, at most")
    iterations: int = Field(default=40, ge=1, description="EM steps, at most")
    contrast: bool = Field(default=True, description="Find each image's contrast, which is weak in thick ice")
    tolerance: float = Field(default=0.005, ge=0, description="Stop at gains below this share of the likelihood")
