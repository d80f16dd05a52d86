"""torch tensors: every dtype and layout, and what they share. Runs where torch is installed."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serialize_store import round_trip, stored

from plasmid import serialize

torch = pytest.importorskip("torch")

DTYPES = sorted(
    (found for found in vars(torch).values() if isinstance(found, torch.dtype)), key=str
)
STORABLE = [
    dtype
    for dtype in DTYPES
    if not str(dtype).startswith(("torch.q", "torch.int1", "torch.uint1", "torch.bits"))
    or dtype in (torch.int16, torch.uint16)
]


def raw(tensor: Any) -> list[int]:
    """The items' bytes, in order."""
    dense = torch.empty(tensor.shape, dtype=tensor.dtype)
    dense.copy_(tensor.detach())
    return list(bytes(dense.untyped_storage()))


def same(back: Any, value: Any) -> None:
    assert type(back) is type(value)
    assert back.dtype is value.dtype
    assert back.shape == value.shape
    assert back.stride() == value.stride()
    assert back.requires_grad == value.requires_grad
    assert raw(back) == raw(value)
    assert vars(back) == vars(value)


@pytest.mark.parametrize("dtype", STORABLE, ids=str)
def test_every_dtype_comes_back_to_the_last_bit(dtype: Any) -> None:
    size = torch.empty(0, dtype=dtype).element_size()
    bits = torch.arange(24 * size, dtype=torch.uint8)
    if dtype is torch.bool:
        bits %= 2
    value = torch.empty(0, dtype=dtype).set_(bits.untyped_storage(), 0, (4, 6), (6, 1))
    for part in (value, value.T, value[1:3, ::2], value[0, 0], value[:0]):
        back = round_trip([part])[0]
        assert back.dtype is dtype
        assert (back.shape, back.stride()) == (part.shape, part.stride())
        assert items(back) == items(part)


def items(tensor: Any) -> list[bytes]:
    """As bytes, one by one: not every dtype can be copied or compared."""
    size, whole = tensor.element_size(), bytes(tensor.untyped_storage())
    places = [tensor.storage_offset()]
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = [place + i * stride for place in places for i in range(length)]
    return [whole[place * size : (place + 1) * size] for place in places]


@given(st.data())
def test_every_layout_alone_and_with_another_view_of_its_storage(data: st.DataObject) -> None:
    base = torch.arange(360.0, dtype=data.draw(st.sampled_from([torch.float64, torch.bfloat16])))
    cube = base.reshape(6, 5, 4, 3)

    def view() -> Any:
        at = [slice(*sorted(data.draw(st.tuples(*[st.integers(0, 6)] * 2)))) for _ in range(4)]
        part = cube[tuple(at)]
        steps = data.draw(st.integers(1, 3))
        return part[::steps].permute(data.draw(st.permutations(range(4))))

    one, two = view(), view()
    same(round_trip(one), one)
    first, second = round_trip({"a": [one], "b": two}).values()
    same(first[0], one)
    same(second, two)
    for number, value in ((1, one), (2, two)):
        value.fill_(-number)  # in the same order to both: what is shared shows
        (first[0] if number == 1 else second).fill_(-number)
    same(first[0], one)
    same(second, two)


def test_a_slice_is_stored_at_its_size_and_slices_still_share() -> None:
    base = torch.zeros(1_000_000)
    assert serialize.plan(base[5000:5010]).nbytes < 500
    parts = {"a": base[5000:5010], "b": base[5005:5015], "bytes": base[5000:5001].view(torch.uint8)}
    assert serialize.plan(parts).nbytes < 1000
    back = round_trip(parts)
    back["a"][5] = 7
    assert back["b"][0] == 7
    back["bytes"].fill_(1)
    assert back["a"][0] != 0
    again = serialize.plan(base[5000:5010])
    assert again.nbytes < 500, "what was pickled before does not count"


def test_leaves_parameters_and_attributes_are_kept() -> None:
    leaf = torch.ones(3, requires_grad=True)
    same(round_trip(leaf), leaf)
    assert round_trip(leaf * 2).requires_grad
    for grad in (True, False):
        parameter = torch.nn.Parameter(torch.ones(3), requires_grad=grad)
        parameter.note = "mine"
        same(round_trip(parameter), parameter)
    if hasattr(torch.nn, "Buffer"):
        same(round_trip(torch.nn.Buffer(torch.ones(3))), torch.nn.Buffer(torch.ones(3)))


def test_modules_keep_tied_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(50, 50), torch.nn.Linear(50, 50))
    model[1].weight = model[0].weight
    back = round_trip(model)
    assert back[1].weight is back[0].weight
    given_ = torch.ones(2, 50)
    assert torch.equal(back(given_), model(given_))
    state = round_trip(model.state_dict())
    assert list(state) == list(model.state_dict())
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()


@dataclasses.dataclass
class Batch:
    x: Any
    y: Any


def test_tensors_inside_of_values_keep_identity() -> None:
    x = torch.rand(100)
    back = round_trip(Batch(x, [x, {"k": lambda: x}]))
    assert back.x is back.y[0]
    assert back.y[1]["k"]() is back.x


class Derived(torch.Tensor):
    pass


def dense(tensor: Any) -> Any:
    return tensor.dequantize() if tensor.is_quantized else tensor.to_dense()


def test_others_go_by_torchs_own_way() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
        for value in (torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr(), quantized):
            back = round_trip({"v": value})["v"]
            assert back.layout is value.layout
            assert back.dtype is value.dtype
            assert torch.equal(dense(back), dense(value))
        turned = torch.tensor([1 + 2j]).conj()
        assert torch.equal(round_trip(turned), turned)
        assert torch.equal(round_trip(turned.imag), turned.imag)
        derived = torch.ones(3).as_subclass(Derived)
        assert type(round_trip(derived)) is Derived
        meta = round_trip(torch.empty(3, device="meta"))
        assert meta.device.type == "meta"


def test_what_was_read_can_be_written_and_is_nobody_elses() -> None:
    buffer, refs = stored([torch.zeros(1000)])
    one, two = serialize.load(buffer, refs)[0], serialize.load(buffer, refs)[0]
    one.fill_(3)
    assert not two.any()
