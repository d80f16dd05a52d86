"""Pictures people really have: the sample images of scikit-image, read with Pillow.

Photographs, scans and microscopy, grey, coloured, transparent. Each program shares them once,
works on them in tasks, and must find what one process finds, to the last bit.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import plasmid

Image = pytest.importorskip("PIL.Image")


def picture_files() -> list[Path]:
    """The images in scikit-image's wheel, found without importing it."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package scikit-image")
    files = sorted((Path(spec.origin).parent / "data").iterdir())
    return [file for file in files if file.suffix in {".png", ".jpg", ".gif"}]


def decode(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return picture_files()


@pytest.fixture(scope="module")
def pictures(files):
    return {file.stem: decode(file) for file in files}


@pytest.fixture(scope="module", autouse=True)
def session():
    plasmid.init(num_cpus=2)
    yield
    plasmid.shutdown()


def edges(picture: np.ndarray) -> np.ndarray:
    """How steep the brightness is at each pixel."""
    grey = picture if picture.ndim == 2 else picture[..., :3].mean(axis=-1)
    rows, columns = np.gradient(grey.astype(np.float64))
    return np.hypot(rows, columns)


# --- the programs


def test_there_are_pictures_of_several_kinds(pictures):
    assert len(pictures) >= 20
    channels = {p.shape[2] if p.ndim == 3 else 1 for p in pictures.values()}
    assert channels == {1, 3, 4}


def test_each_picture_comes_back_as_it_was_put_and_read_only(pictures):
    refs = {name: plasmid.put(picture) for name, picture in pictures.items()}
    for name, picture in plasmid.get(refs).items():
        assert picture.dtype == pictures[name].dtype
        np.testing.assert_array_equal(picture, pictures[name])
        assert not picture.flags.writeable


@plasmid.remote
def histogram(pictures, name):
    return np.bincount(pictures[name].reshape(-1).astype(np.uint8), minlength=256)


def test_all_pictures_are_one_object_and_each_task_looks_at_one(pictures):
    shared = plasmid.put(pictures)
    found = plasmid.get({name: histogram.remote(shared, name) for name in pictures})
    for name, picture in pictures.items():
        alone = np.bincount(picture.reshape(-1).astype(np.uint8), minlength=256)
        np.testing.assert_array_equal(found[name], alone)


@plasmid.remote
def decode_task(file):
    return decode(file)


@plasmid.remote
def edges_task(picture):
    return edges(picture)


def test_decoded_by_one_task_and_searched_for_edges_by_another_in_any_order(files):
    found = {}
    waiting = {edges_task.remote(decode_task.remote(file)): file for file in files}
    while waiting:
        ready, _ = plasmid.wait(list(waiting), num_returns=min(3, len(waiting)))
        for ref in ready:
            found[waiting.pop(ref)] = plasmid.get(ref)
    assert sorted(found) == files
    for file, picture in found.items():
        np.testing.assert_array_equal(picture, edges(decode(file)))


@plasmid.remote
def stripe(picture, first, last):
    """Edges in some rows; one row more on each side, so that the seams are right."""
    low, high = max(first - 1, 0), min(last + 1, len(picture))
    return edges(picture[low:high])[first - low : last - low]


def test_a_large_picture_is_cut_into_stripes_and_put_together_again(pictures):
    picture = max(pictures.values(), key=lambda p: p.nbytes)
    shared = plasmid.put(picture)
    cuts = np.linspace(0, len(picture), 9, dtype=int).tolist()
    refs = [stripe.remote(shared, a, b) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.vstack(plasmid.get(refs)), edges(picture))


@plasmid.remote(num_returns=2)
def halves(picture):
    middle = picture.shape[1] // 2
    return picture[:, :middle], picture[:, middle:]


@plasmid.remote
def side_by_side(left, right):
    return np.concatenate([left, right], axis=1)


def test_halves_are_views_with_strides_and_join_to_the_whole(pictures):
    for picture in pictures.values():
        joined = side_by_side.remote(*halves.remote(plasmid.put(picture)))
        np.testing.assert_array_equal(plasmid.get(joined), picture)


def test_a_picture_outlives_its_ref(pictures):
    shared = plasmid.put(pictures["astronaut"])
    view = plasmid.get(shared)
    del shared
    for _ in range(20):  # would reuse the memory if it were free
        plasmid.put(np.zeros_like(view))
    np.testing.assert_array_equal(view, pictures["astronaut"])
