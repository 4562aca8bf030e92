"""The bundled style clips are what the code makes."""

from importlib.resources import files

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")

from dmt.corpus.expression import emotions
from dmt.corpus.styles import write_styles


def test_bundled_styles_are_reproduced(tmp_path):
    write_styles(tmp_path / "styles.npz")
    bundled = np.load(str(files("dmt") / "assets" / "styles.npz"))
    made = np.load(tmp_path / "styles.npz")
    assert set(bundled.files) == set(made.files) == set(emotions())
    for name in emotions():
        assert made[name].shape == (256, 64)
        # Another machine's linear algebra may round differently.
        np.testing.assert_allclose(made[name].astype(float), bundled[name].astype(float), atol=0.02)
