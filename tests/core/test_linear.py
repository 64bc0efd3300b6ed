"""Every way to multiply int8 weights, against the float reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimum.quanto import AbsmaxOptimizer, qint8, quantize_weight

from archroute.engines import linear
from archroute.engines.linear import FloatLinear, PackedLinear, WidenedLinear, linear_of
from archroute.engines.quantize import int8_tensors

needs_packed = pytest.mark.skipif(
    not linear.packed_is_right(), reason="this CPU or this build of torch has no right int8 product"
)


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
)
def test_packed_products_at_odd_shapes(count: int, rows: int, columns: int, seed: int, spread: float):
    data, scale, bias = layer(rows, columns, seed)
    x = torch.randn(count, columns, generator=torch.Generator().manual_seed(seed)) * spread
    expected = reference(x, data, scale, bias)
    packed = PackedLinear(data, scale, torch.float32, bias)
    # A row is rounded to steps of its largest value: by half of one in 127, or of one in 127 · 254.
    largest = (x.abs().amax(dim=1, keepdim=True).double() / 127) * (data.double().abs() * scale.double()[:, None]).sum(
        1
    )
    assert ((packed(x).double() - expected).abs() <= largest / 254 * 0.51 + expected.abs() * 1e-5 + 1e-6).all()
    assert ((packed(x, fast=True).double() - expected).abs() <= largest * 0.51 + expected.abs() * 1e-5 + 1e-6).all()


@pytest.mark.parametrize("count", [1, 2, 7, 16, 33, 230, 600])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_widened_products(count: int, dtype: torch.dtype, tolerance: float):
    data, scale, bias = layer(131, 77, count)
    x = torch.randn(count, 77)
    assert error(WidenedLinear(data, scale, dtype, bias)(x), reference(x, data, scale, bias)) < tolerance


@needs_packed
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_packed_products_are_as_good_as_bfloat16(dtype: torch.dtype):
    data, scale, bias = layer(512, 1024, 0)
    x = torch.randn(230, 1024)
    expected = reference(x, data, scale, bias)
    widened = WidenedLinear(data, scale, torch.bfloat16, bias)
    assert error(PackedLinear(data, scale, dtype, bias)(x), expected) < error(widened(x), expected) * 1.2


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


def test_saturating_products_are_found_out(monkeypatch: pytest.MonkeyPatch):
    """A CPU without VNNI adds pairs of products in 16 bits: then packed weights must not be taken."""
    monkeypatch.setattr(PackedLinear, "multiplied", lambda self, x: torch.full((len(x), 16), 32767.0))
    assert not linear.packed_is_right()
    linear._fastest_on_cpu.cache_clear()
    kernel, _ = linear.fastest_on(torch.device("cpu"))
    linear._fastest_on_cpu.cache_clear()
    assert kernel == "widened"
