"""torch tensors in the store: views of private mappings. Runs where torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plasmid

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("session")

MB = 1 << 20


def test_a_tensor_is_read_without_a_copy_and_writes_to_it_are_private() -> None:
    ref = plasmid.put({"x": torch.ones(MB), "y": [torch.ones(3)]})
    assert plasmid.explain(ref).zero_copy
    one, two = plasmid.get([ref, ref])
    assert mapped_from_memfd(one["x"].data_ptr())
    assert len({got["y"][0].data_ptr() - got["x"].data_ptr() for got in (one, two)}) == 1
    one["x"].add_(1)
    one["y"][0].zero_()
    assert (two["x"] == 1).all()
    assert (two["y"][0] == 1).all()
    assert (plasmid.get(ref)["x"] == 1).all()


def mapped_from_memfd(address: int) -> bool:
    """Whether that address lies in a mapping of a memfd."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            if low <= address < high:
                return "memfd:" in line
    return False


def test_a_task_may_write_to_its_argument() -> None:
    ref = plasmid.put(torch.ones(MB))

    @plasmid.remote
    def double(tensor: Any) -> Any:
        return tensor.mul_(2)

    assert (plasmid.get(double.remote(ref)) == 2).all()
    assert (plasmid.get(ref) == 1).all()


def test_a_tensor_outlives_its_reference() -> None:
    tensor = plasmid.get(plasmid.put(torch.ones(MB)))
    part = tensor[10:20]
    del tensor
    other = plasmid.put(torch.zeros(MB))
    assert (part == 1).all()
    del other


def test_a_writable_get_gives_tensors_and_arrays_over_one_private_mapping() -> None:
    ref = plasmid.put([torch.ones(MB), np.ones(MB)])
    tensor, array = plasmid.get(ref, writable=True)
    tensor[0] = array[0] = 5
    assert plasmid.get(ref)[0][0] == plasmid.get(ref)[1][0] == 1


def test_a_tensor_over_a_stored_array_is_shared_when_it_is_put() -> None:
    array = plasmid.get(plasmid.put(np.arange(MB)), writable=False)
    with pytest.warns(UserWarning, match="not writable"):
        tensor = torch.from_numpy(array)
    ref = plasmid.put({"t": tensor[10:]})
    assert plasmid.explain(ref).copied < 500
    got = plasmid.get(ref)["t"]
    assert torch.equal(got, tensor[10:])
    got[0] = 77
    assert array[10] == 10


@pytest.mark.parametrize("size", [4, MB])
def test_what_a_task_writes_to_a_tensor_made_in_place_is_written(size: int) -> None:
    made = plasmid.empty((2, size), np.float32)
    made[:] = 0

    @plasmid.remote
    def fill(tensors: Any) -> None:
        tensors[0].fill_(5)
        tensors[1][::2] = 6

    whole = torch.from_numpy(made)
    plasmid.get(fill.remote([whole[0], whole[1]]))
    assert (made[0] == 5).all()
    assert (made[1, ::2] == 6).all()
    ref = plasmid.put([whole])
    assert plasmid.explain(ref).copied < 500


def test_a_derived_tensor_over_an_array_made_in_place_is_refused() -> None:
    class Derived(torch.Tensor):  # type: ignore[name-defined, misc]
        pass

    made = plasmid.empty(100, np.float32)
    tensor = torch.from_numpy(made).as_subclass(Derived)
    with pytest.raises(TypeError, match=r"Derived.*made in place"):
        plasmid.put([tensor])
