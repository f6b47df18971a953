"""The small rules: states, routes, envelopes, foreign errors, what was loaded, meters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.envelopes import MAX_ERROR_BYTES, Family, render, render_event
from app.core.errors import InvalidRequest, StartError
from app.core.foreign_errors import adopt
from app.core.loaded_model import LoadedModel, refuse_other_scheme
from app.core.meter import Meter
from app.core.routes import ROUTES, RouteTable
from app.core.state import Phase, ServiceState


def test_a_state_is_entered_by_its_ways_only_and_observers_hear_of_it() -> None:
    state, heard = ServiceState(), list[Phase]()
    state.observers.append(heard.append)
    state.enter(Phase.LOADING)
    state.enter(Phase.LOADING)
    state.enter(Phase.READY)
    assert state.is_ready
    assert not state.reason
    state.enter(Phase.DRAINING)
    assert state.is_alive
    with pytest.raises(ValueError, match="no way"):
        state.enter(Phase.READY)
    state.enter(Phase.ENGINE_DEAD)
    assert not state.is_alive
    assert heard == [Phase.LOADING, Phase.READY, Phase.DRAINING, Phase.ENGINE_DEAD]


def test_the_route_table_finds_paths_and_parameters_and_nothing_near() -> None:
    table = RouteTable(ROUTES)
    assert set(table.find("/v1/models")) == {"GET"}
    assert table.find("/v1/models/org/name")["GET"].template == "/v1/models/{model_id}"
    assert table.find("/v1/responses/r1/cancel")["POST"].template.endswith("/cancel")
    for path in ("/v1/models/", "/v1/model", "/v1/chat/completions/", "//health", "/health/x", ""):
        assert not table.find(path)


@given(st.text(max_size=5000), st.text(max_size=500), st.sampled_from(Family))
def test_an_envelope_is_valid_json_and_bounded_whatever_it_quotes(
    sentence: str, param: str, family: Family
) -> None:
    error = InvalidRequest(sentence, param=param)
    body = render(family, error, "id")
    assert len(body) <= MAX_ERROR_BYTES
    assert json.loads(body)["error"]["message"] is not None
    assert render_event(family, error).endswith(b"\n\n")
    assert render_event(family, error).count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("status", "message", "code", "param"),
    [
        (404, "The model `x` does not exist.", "model_not_found", "model"),
        (400, "exceeds model's maximum context length (4096).", "context_length_exceeded", None),
        (400, "bad (parameter=stop, value=['\n'])", "invalid_request", "stop"),
        (400, "bad (parameter=stop)", "invalid_request", "stop"),
        (
            400,
            "max_tokens=9 cannot be greater than max_model_len=8.",
            "context_length_exceeded",
            "max_tokens",
        ),
        (400, "n must be at least 1, got 0.", "invalid_request", "n"),
        (400, "This must not be a field.", "invalid_request", None),
        (503, "busy", "overloaded", None),
        (501, "no", "not_supported", None),
        (500, "Traceback", "internal_error", None),
    ],
)
def test_vllms_errors_become_ours(status: int, message: str, code: str, param: str | None) -> None:
    error = adopt(status, message)
    assert (error.status, error.code, error.param) == (status, code, param)
    assert "value=" not in error.sentence
    assert "Traceback" not in error.sentence


INT8 = "CompressedTensorsW8A8Int8/CutlassInt8ScaledMMLinearKernel"


def loaded(layers: dict[str, int]) -> LoadedModel:
    return LoadedModel(layers, "UnquantizedEmbeddingMethod", 1, 1, 4096, 8, 4, 16)


def test_the_scheme_and_kernel_are_those_of_most_layers() -> None:
    model = loaded({INT8: 20, "UnquantizedLinearMethod/none": 1})
    assert (model.scheme, model.kernel) == ("w8a8-int8", "CutlassInt8ScaledMMLinearKernel")
    assert model.num_kv_tokens == 64


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"UnquantizedLinearMethod/none": 20},
        {INT8: 20, "UnquantizedLinearMethod/none": 1},
        {"CompressedTensorsW8A8Int8/none": 20},
        {"CompressedTensorsW8A8Fp8/CutlassFP8ScaledMMLinearKernel": 20},
        {"CompressedTensorsWNA16/MarlinLinearKernel": 20},
    ],
)
def test_anything_but_int8_in_every_layer_is_refused(layers: dict[str, int]) -> None:
    with pytest.raises(StartError, match="w8a8-int8"):
        refuse_other_scheme(loaded(layers), "w8a8-int8")


def test_int8_in_every_layer_is_taken() -> None:
    refuse_other_scheme(loaded({INT8: 20}), "w8a8-int8")


def test_a_meter_says_what_does_not_fit_with_the_numbers() -> None:
    meter = Meter()
    meter.note_asked({"max_tokens": 5, "max_completion_tokens": 100})
    assert not meter.overflow(28, 128)
    sentence = meter.overflow(29, 128)
    assert "128" in sentence
    assert "29" in sentence
    assert "max_completion_tokens asks for 100" in sentence
    assert not Meter().overflow(128, 128)


@pytest.mark.parametrize("value", [5000.0, "5000", 5000])
def test_a_length_counts_as_vllm_reads_it(value: object) -> None:
    meter = Meter()
    meter.note_asked({"max_tokens": value})
    assert meter.asked_tokens == 5000


@pytest.mark.parametrize("value", ["nan", "inf", "many", None, [1]])
def test_what_is_no_length_is_left_to_vllm(value: object) -> None:
    meter = Meter()
    meter.note_asked({"max_tokens": value})
    assert meter.asked_tokens is None


def test_what_waits_for_ready_is_done_once_though_the_service_comes_back_to_it() -> None:
    state, done = ServiceState(), list[str]()
    state.once_ready(lambda: done.append("shown"))
    state.enter(Phase.LOADING)
    assert not done
    for phase in (Phase.READY, Phase.SATURATED, Phase.READY):
        state.enter(phase)
    assert done == ["shown"]


@pytest.mark.parametrize(
    "message",
    [
        "argument 'ids': 'str' object cannot be interpreted as an integer",
        "vllm.v1.engine failed",
        "bad: <class 'int'>",
        "see sampler.py",
        "an EngineCore of ours",
    ],
)
def test_a_foreign_error_tells_nothing_of_the_inside(message: str) -> None:
    assert adopt(400, message).sentence == "The request cannot be served as it is."


def test_a_foreign_error_names_no_class() -> None:
    error = adopt(400, "Input should be a valid dictionary or instance of StreamOptions")
    assert error.sentence == "Input should be a valid dictionary"


def test_a_foreign_error_quotes_little_of_the_request() -> None:
    error = adopt(404, f"The model `{'x' * 5000}` does not exist.")
    assert error.code == "model_not_found"
    assert len(error.sentence) == 300
