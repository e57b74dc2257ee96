"""The KV cache: what it keeps of each token, for how many requests, on how many GPUs."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.kv_bytes import KV_DTYPES, kv_bytes, token_bytes
from penstock.decide.model_shape import Layers, ModelShape

KIB = 1024
LLAMA = ModelShape(heads=32, layers=(Layers(count=32, kv_heads=8, key_dim=128, value_dim=128),))
DEEPSEEK = ModelShape(heads=128, layers=(Layers(count=61, latent_dim=576),))
GEMMA = ModelShape(
    heads=16,
    layers=(
        Layers(count=21, kv_heads=8, key_dim=256, value_dim=256, window=4096),
        Layers(count=21, kv_heads=8, key_dim=256, value_dim=256),
    ),
)

layers = st.builds(
    Layers,
    count=st.integers(1, 80),
    kv_heads=st.integers(1, 64),
    key_dim=st.sampled_from((32, 64, 128, 192)),
    value_dim=st.sampled_from((64, 128)),
    window=st.sampled_from((0, 128, 1000, 4096)),
    latent_dim=st.sampled_from((0, 0, 576)),
)
shapes = st.builds(ModelShape, layers=st.lists(layers, min_size=1, max_size=3).map(tuple))
requests = st.integers(1, 300)
contexts = st.integers(1, 40_000)
batches = st.sampled_from((0, 512, 8192))


def test_a_token_takes_two_vectors_for_each_head_and_layer() -> None:
    assert token_bytes(LLAMA) == 128 * KIB


def test_latent_attention_keeps_one_vector_whole_on_every_rank() -> None:
    assert token_bytes(DEEPSEEK) == 61 * 576 * 2 == 70_272
    assert token_bytes(DEEPSEEK, tensor_parallel=8) == 70_272


def test_ranks_share_heads_out_and_replicate_what_cannot_be_shared() -> None:
    assert token_bytes(LLAMA, tensor_parallel=4) == 32 * KIB
    assert token_bytes(LLAMA, tensor_parallel=8) == token_bytes(LLAMA, tensor_parallel=16) == 16 * KIB


def test_each_request_is_rounded_up_to_whole_blocks() -> None:
    assert kv_bytes(LLAMA, 3, 17) == 3 * 32 * 128 * KIB
    assert kv_bytes(LLAMA, 3, 17, block_tokens=1) == 3 * 17 * 128 * KIB


def test_a_window_keeps_itself_and_one_block_and_the_batch_that_is_computed() -> None:
    kept, whole = GEMMA.layers
    half = 21 * 8 * 512 * 2
    assert (
        kv_bytes(GEMMA, 2, 32_768, batched_tokens=2048) == half * (2 * (4096 + 16) + 2048) + half * 2 * 32_768
    )
    assert kv_bytes(GEMMA, 2, 32_768, caps_windows=False) == half * 2 * 2 * 32_768
    assert kept.window and not whole.window


def test_a_window_longer_than_the_context_changes_nothing() -> None:
    assert kv_bytes(GEMMA, 5, 2048, batched_tokens=8192) == kv_bytes(GEMMA, 5, 2048, caps_windows=False)


@given(shapes, requests, contexts, st.integers(0, 5000), batches)
def test_more_context_never_needs_less(
    shape: ModelShape, count: int, context: int, more: int, batched: int
) -> None:
    assert kv_bytes(shape, count, context + more, batched_tokens=batched) >= kv_bytes(
        shape, count, context, batched_tokens=batched
    )


@given(shapes, requests, contexts, batches)
def test_more_requests_never_need_less(shape: ModelShape, count: int, context: int, batched: int) -> None:
    assert kv_bytes(shape, count + 1, context, batched_tokens=batched) >= kv_bytes(
        shape, count, context, batched_tokens=batched
    )


@given(shapes, requests, contexts, st.sampled_from((1, 2, 3, 4, 8, 16)))
def test_all_ranks_together_keep_at_least_what_one_would(
    shape: ModelShape, count: int, context: int, ranks: int
) -> None:
    assert ranks * kv_bytes(shape, count, context, tensor_parallel=ranks) >= kv_bytes(shape, count, context)


@given(shapes, requests, contexts, batches)
def test_fp8_halves_it(shape: ModelShape, count: int, context: int, batched: int) -> None:
    whole = kv_bytes(shape, count, context, batched_tokens=batched)
    assert 2 * kv_bytes(shape, count, context, batched_tokens=batched, kv_dtype="fp8") == whole


@given(shapes, requests, contexts, batches)
def test_windows_never_make_it_larger(shape: ModelShape, count: int, context: int, batched: int) -> None:
    assert kv_bytes(shape, count, context, batched_tokens=batched) <= kv_bytes(
        shape, count, context, batched_tokens=batched, caps_windows=False
    )


@given(shapes, requests, contexts)
def test_every_type_of_cache_keeps_whole_bytes(shape: ModelShape, count: int, context: int) -> None:
    sizes = [kv_bytes(shape, count, context, kv_dtype=kind) for kind in KV_DTYPES]
    assert all(type(size) is int and size > 0 for size in sizes)
