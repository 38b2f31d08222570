"""What the tests of several rooms share: a few generated pedestrians, and where real pictures may lie."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kronreid.data.pedestrians import write_market1501

# A busy machine is slow, which says nothing about the code under test.
settings.register_profile("kronreid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kronreid")


@pytest.fixture(scope="session")
def pedestrians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated data set in Market-1501's layout.

    4 training identities with 4 pictures each, 3 test identities with 2 queries and 2 gallery pictures each,
    3 distractors and 2 junk pictures; 2 cameras.
    """
    root = tmp_path_factory.mktemp("data") / "pedestrians"
    write_market1501(
        root,
        train_identities=4,
        test_identities=3,
        cameras=2,
        pictures_per_camera=2,
        distractors=3,
        junk=2,
        progress=False,
    )
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real pictures, which the project does not ship."""
    folder = os.environ.get("KRONREID_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("KRONREID_SHARED does not name the folder with the real data sets")
    return Path(folder)
