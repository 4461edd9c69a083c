import numpy as np
import pytest

from synth.objective.performance import information_density, netscore, performance

# computed by hand from public accuracies, parameters and MACs (cv-models README); not published NetScores
ROWS = [
    ("SqueezeNet 1.1", 0.58178, 1.2355e6, 0.351911e9, 47.089, 74.208),
    ("AlexNet", 0.56522, 61.1008e6, 0.714692e9, 0.925, 53.687),
    ("VGG-16", 0.71592, 138.3575e6, 15.483862e9, 0.517, 40.886),
    ("ResNet-18", 0.69758, 11.6895e6, 1.819066e9, 5.968, 60.467),
    ("ResNet-50", 0.76130, 25.5570e6, 4.111515e9, 2.979, 55.047),
    ("DenseNet-121", 0.74434, 7.9789e6, 2.865672e9, 9.329, 61.279),
]


@pytest.mark.parametrize(("name", "accuracy", "params", "macs", "density", "score"), ROWS)
def test_known_networks(name, accuracy, params, macs, density, score):
    assert netscore(accuracy, params, macs) == pytest.approx(score, abs=5e-3)
    assert information_density(accuracy, params) == pytest.approx(density, abs=1e-3)


def test_the_papers_segmentation_gain_needs_the_common_logarithm():
    """12 times the density, 2.6 times fewer MACs, 90.3 to 90.4 %: "about +15" in the paper; a natural log gives 34."""
    before = netscore(0.903, 12e6 * 0.904 / 0.903, 2.6e9)
    after = netscore(0.904, 1e6 * (0.904 / 0.903) ** 2, 1e9)
    assert after - before == pytest.approx(14.96, abs=0.05)


def test_an_accuracy_of_zero_is_worth_nothing_and_vectors_broadcast():
    assert netscore(0.0, 1e6, 1e9) == -np.inf
    costs = {"params": np.array([1e5, 1e6]), "macs": np.array([1e7, 1e8])}
    assert performance(np.array([[0.9], [0.8]]), costs).shape == (2, 2)
