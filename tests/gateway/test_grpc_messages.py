"""The model's name is found and exchanged in the bytes that real clients send, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from penstock.gateway.grpc.messages import flag, model_of, with_model
from penstock.kit.errors import InvalidInput

NAMES = st.text(max_size=40).filter(lambda text: "\ud800" not in text)


def infer(model: str, **fields: object) -> pb.ModelInferRequest:
    tensor = triton.InferInput("x", [1, 300], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 300), np.float32))
    message = pb.ModelInferRequest(model_name=model, id="7", **fields)
    message.inputs.append(tensor._get_tensor())
    message.raw_input_contents.append(tensor._get_content())
    return message


@given(NAMES, NAMES)
def test_another_name_is_all_that_changes(before: str, after: str) -> None:
    message = infer(before, model_version="3")
    message.parameters["priority"].int64_param = -5
    data = message.SerializeToString()
    assert model_of(data) == before
    renamed = pb.ModelInferRequest.FromString(with_model(data, after))
    message.model_name = after
    assert renamed == message


@pytest.mark.parametrize("kind", [pb.ModelReadyRequest, pb.ModelMetadataRequest, pb.ModelConfigRequest])
def test_what_asks_about_a_model_names_it_in_the_same_place(kind: type) -> None:
    data = kind(name="default/iris", version="1").SerializeToString()
    assert model_of(data) == "default/iris"
    assert kind.FromString(with_model(data, "iris")) == kind(name="iris", version="1")


def test_of_two_names_the_last_counts_and_both_are_exchanged() -> None:
    data = pb.ModelReadyRequest(name="first").SerializeToString()
    data += pb.ModelReadyRequest(version="1", name="last").SerializeToString()
    assert model_of(data) == pb.ModelReadyRequest.FromString(data).name == "last"
    assert with_model(data, "m") == pb.ModelReadyRequest(name="m", version="1").SerializeToString()


def test_a_message_without_a_name_gets_one() -> None:
    data = pb.ModelReadyRequest(version="1").SerializeToString()
    assert model_of(data) == ""
    assert pb.ModelReadyRequest.FromString(with_model(data, "m")).name == "m"


@given(st.binary(max_size=60))
def test_what_is_no_message_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    """Groups (wire types 3 and 4) are refused too: the protocol has none, and nobody may hide a name in them."""
    try:
        model_of(data)
    except InvalidInput as error:
        assert error.code == "bad_message"
        if error.message.endswith(("type 3", "type 4")):
            return
        with pytest.raises(Exception, match=r"Error parsing|Failed to parse|invalid|decode"):
            pb.ModelReadyRequest.FromString(data)


@given(st.integers(0, 400))
def test_a_message_that_is_cut_off_never_names_another_model(cut: int) -> None:
    data = infer("default/iris").SerializeToString()
    try:
        assert model_of(data[:cut]) in ("", "default/iris")
    except InvalidInput as error:
        assert "cut off" in error.message


def test_our_own_answers_are_what_clients_read() -> None:
    assert pb.ServerLiveResponse.FromString(flag(True)).live
    assert not pb.ServerReadyResponse.FromString(flag(False)).ready
