"""Every way to multiply int8 weights, against the float reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimum.quanto import AbsmaxOptimizer, qint8, quantize_weight

from archroute.engines import linear
from archroute.engines.linear import LEVELS, FloatLinear, PackedLinear, WidenedLinear, linear_of
from archroute.engines.quantize import int8_tensors

needs_packed = pytest.mark.skipif(
    linear.packed_levels() is None, reason="this CPU or this build of torch has no right int8 product"
)
right_levels = [levels for levels in LEVELS if levels <= (linear.packed_levels() or 0)]


def layer(rows: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    data = torch.randint(-127, 128, (rows, columns), dtype=torch.int8, generator=draw)
    scale = torch.rand(rows, generator=draw) * 0.02 + 0.001
    return data, scale, torch.randn(rows, generator=draw)


def reference(x: torch.Tensor, data: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return x.double() @ (data.double() * scale.double()[:, None]).T + bias.double()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


@needs_packed
@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 600),
    rows=st.integers(1, 130),
    columns=st.integers(1, 200),
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([1e-4, 1.0, 1e4]),
    levels=st.sampled_from(right_levels or LEVELS),
)
def test_packed_products_at_odd_shapes(count: int, rows: int, columns: int, seed: int, spread: float, levels: int):
    data, scale, bias = layer(rows, columns, seed)
    x = torch.randn(count, columns, generator=torch.Generator().manual_seed(seed)) * spread
    expected = reference(x, data, scale, bias)
    packed = PackedLinear(data, scale, torch.float32, bias, levels=levels)
    # A row is rounded to steps of its largest value: by half of one in 127 (or 63), or of one in 127 · 254 (63 · 126).
    whole = (data.double().abs() * scale.double()[:, None]).sum(1)
    largest = (x.abs().amax(dim=1, keepdim=True).double() / levels) * whole
    fine = largest / (2 * levels)
    assert ((packed(x).double() - expected).abs() <= fine * 0.51 + expected.abs() * 1e-5 + 1e-6).all()
    assert ((packed(x, fast=True).double() - expected).abs() <= largest * 0.51 + expected.abs() * 1e-5 + 1e-6).all()


@pytest.mark.parametrize("count", [1, 2, 7, 16, 33, 230, 600])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_widened_products(count: int, dtype: torch.dtype, tolerance: float):
    data, scale, bias = layer(131, 77, count)
    x = torch.randn(count, 77)
    assert error(WidenedLinear(data, scale, dtype, bias)(x), reference(x, data, scale, bias)) < tolerance


@pytest.mark.parametrize("levels", right_levels)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_packed_products_are_as_good_as_bfloat16(dtype: torch.dtype, levels: int):
    data, scale, bias = layer(512, 1024, 0)
    x = torch.randn(230, 1024)
    expected = reference(x, data, scale, bias)
    widened = WidenedLinear(data, scale, torch.bfloat16, bias)
    packed = PackedLinear(data, scale, dtype, bias, levels=levels)
    assert error(packed(x), expected) < error(widened(x), expected) * 1.2


@pytest.mark.parametrize("levels", right_levels)
def test_the_largest_numbers_do_not_saturate(levels: int):
    """Of either sign, all in a row: pairs of products are then as large as they can be."""
    data = torch.full((16, 512), 127, dtype=torch.int8)
    data[8:] = -128
    packed = PackedLinear(data, torch.ones(16), torch.float32, levels=levels)
    for x in (torch.ones(3, 512), -torch.ones(3, 512)):
        assert torch.allclose(packed(x, fast=True), x @ data.float().T, rtol=1e-6)


def test_the_engine_takes_levels_with_which_products_are_right():
    tensors = dict(int8_tensors("a", torch.full((16, 512), 3.0)))
    made = linear_of(tensors, "a", kernel=linear.fastest_on(torch.device("cpu"))[0])
    x = torch.ones(2, 512)
    assert torch.allclose(made(x, fast=True), torch.full((2, 16), 3.0 * 512), rtol=0.01)


@needs_packed
def test_rows_of_zeros_and_a_factor_a_row():
    data, scale, bias = layer(20, 30, 1)
    x = torch.randn(5, 30)
    x[2] = 0
    factor = torch.rand(5, 1) + 0.5
    for one in (PackedLinear(data, scale, torch.float32, bias), WidenedLinear(data, scale, torch.float32, bias)):
        assert torch.allclose(one(x)[2], bias)
        assert error(one(x, factor), reference(x * factor, data, scale, bias)) < 1e-3


def test_a_layer_is_made_of_what_quanto_stores():
    weight, other = torch.randn(24, 40), torch.randn(8, 40)
    tensors = {"b.bias": torch.randn(24), "c.bias": torch.randn(8)}
    tensors |= dict(int8_tensors("b", weight)) | dict(int8_tensors("c", other))
    stock = quantize_weight(weight, qtype=qint8, axis=0, scale=AbsmaxOptimizer()(weight, qtype=qint8, axis=0))
    x = torch.randn(9, 40)
    stacked = linear_of(tensors, "b", "c")(x)
    assert torch.allclose(stacked[:, :24], x @ stock.dequantize().T + tensors["b.bias"], atol=1e-4)
    assert stacked.shape == (9, 32)


def test_float_layers_stay_float():
    weight = torch.randn(6, 4)
    made = linear_of({"a.weight": weight}, "a")
    assert isinstance(made, FloatLinear)
    x = torch.randn(3, 4)
    assert torch.allclose(made(x), x @ weight.T)


@pytest.fixture
def measured_anew() -> Iterator[None]:
    """What this machine can do is found out once a process."""
    found = linear.packed_levels, linear._fastest_on_cpu
    for one in found:
        one.cache_clear()
    yield
    for one in found:
        one.cache_clear()


@needs_packed
@pytest.mark.usefixtures("measured_anew")
def test_saturating_products_are_found_out(monkeypatch: pytest.MonkeyPatch):
    """A CPU without VNNI adds pairs of products in 16 bits: parts must then be smaller."""
    product = PackedLinear.multiplied

    def saturated(layer: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        pair = 2 * int(x.max()) * 127  # as large as the test's weights let it be
        return product(layer, x) if pair < 2**15 else torch.full((len(x), 16), 32767.0)

    monkeypatch.setattr(PackedLinear, "multiplied", saturated)
    assert linear.packed_levels() == right_levels[-1]


@pytest.mark.usefixtures("measured_anew")
def test_products_that_are_never_right_are_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PackedLinear, "multiplied", lambda self, x: torch.full((len(x), 16), 32767.0))
    assert linear.packed_levels() is None
    kernel, _ = linear.fastest_on(torch.device("cpu"))
    assert kernel == "widened"
