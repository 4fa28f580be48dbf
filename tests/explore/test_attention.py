"""Attention over states: adds to one, agrees with the network point by point, zero where nothing is decoded."""

import numpy as np
import pytest
import torch

from cryoformer.explore import attention as module
from cryoformer.explore.attention import attention_over_states, has_attention, state_pairs
from explore.toy import small_model


def test_statistics_agree_with_the_network_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    latents = np.random.default_rng(0).standard_normal((20, 2))
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1000)  # many chunks
    found = attention_over_states(model, latents)
    points = model.points(model.box)
    with torch.no_grad():
        queries = model.network.queries(model.network.deformation(torch.as_tensor(latents).float()))
        weights = model.network.attention(model.network.spatial_features(points.encoding), queries).numpy()
    np.testing.assert_allclose(found.mean, weights.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.mean.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.deviation, weights.std(axis=0), atol=1e-5)
    first, second = state_pairs(20)[0]
    np.testing.assert_allclose(
        found.patterns[:, 0], ((weights[first] - weights[second]) ** 2).sum(axis=1), rtol=1e-3, atol=1e-7
    )


def test_one_state_does_not_change_and_solvent_has_no_attention() -> None:
    model = small_model()
    found = attention_over_states(model, np.ones((1, 2)))
    assert found.change.max() == 0.0
    volume = found.volume(found.mean[:, 0], model.box)
    assert (volume[model.window.numpy() == 0] == 0).all()
    assert (volume[model.window.numpy() > 0] > 0).all()


def test_a_network_without_queries_has_none() -> None:
    assert has_attention(small_model())
    assert not has_attention(small_model("concatenate"))
