"""Which files of a repository make a model, and which model a name means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.download.names import HubName
from gguf_widgets.core.download.repo_files import (
    RepoFile,
    RepoModel,
    choose,
    family_of,
    models_among,
    quant_in,
)
from gguf_widgets.core.errors import DownloadError


def among(*paths: str) -> list[RepoModel]:
    return models_among(RepoFile(path, 1000 + 7 * index) for index, path in enumerate(paths))


def chosen(name: HubName, *paths: str) -> tuple[str, str]:
    model, why = choose(among(*paths), name)
    return model.path, why


# Names as they are found in public repositories.
@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b-chat.Q5_K_S.gguf", "Q5_K_S"),
        ("qwen2.5-0.5b-instruct-q8_0.gguf", "Q8_0"),
        ("qwen2.5-7b-instruct-q4_0-00001-of-00002.gguf", "Q4_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Model-IQ2_XXS.gguf", "IQ2_XXS"),
        ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("UD-IQ1_M/DeepSeek-R1-UD-IQ1_M-00001-of-00004.gguf", "UD-IQ1_M"),
        ("BF16/model-00001-of-00002.gguf", "BF16"),
        ("gemma-3-1b-it-fp16.gguf", "F16"),
        ("Phi-3-mini-4k-instruct-fp32.gguf", "F32"),
        ("ggml-model-f16.gguf", "F16"),
        ("bitnet-TQ2_0.gguf", "TQ2_0"),
        ("Q4_K_M-tuned-Q8_0.gguf", "Q8_0"),
        ("SEQ2_1-model.gguf", ""),
        ("model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name(path: str, quant: str) -> None:
    assert quant_in(path) == quant


def test_parts_are_one_model_and_a_missing_part_is_seen() -> None:
    parts = [f"big-Q8_0-0000{n}-of-00003.gguf" for n in (3, 1, 2)]
    (whole,) = among(*parts)
    assert [file.path for file in whole.files] == sorted(parts)
    assert whole.size_bytes == 1000 + 1007 + 1014
    assert whole.complete
    (broken,) = among(*parts[:2])
    assert not broken.complete
    with pytest.raises(DownloadError, match="lacks a part") as caught:
        choose([broken], HubName("o/r"))
    assert caught.value.details["problem"] == "incomplete"


def test_the_companion_goes_with_its_model() -> None:
    paths = ["a/tiny-Q4_K_M.gguf", "big-Q8_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"]
    models = {model.path: model for model in among(*paths, "a/mmproj-tiny-f32.gguf")}
    assert set(models) == {"a/tiny-Q4_K_M.gguf", "big-Q8_0.gguf"}
    assert models["big-Q8_0.gguf"].companion == RepoFile("mmproj-F16.gguf", 1021)
    assert models["a/tiny-Q4_K_M.gguf"].companion == RepoFile("a/mmproj-tiny-f32.gguf", 1028)
    assert models["big-Q8_0.gguf"].total_bytes == 1007 + 1021
    assert [f.path for f in models["big-Q8_0.gguf"].all_files] == [
        "big-Q8_0.gguf",
        "mmproj-F16.gguf",
    ]


def test_what_is_gguf_and_no_model_is_left_out() -> None:
    names = ["x-imatrix.gguf", "imatrix.gguf", "ggml-vocab-llama.gguf", "lora-emma.gguf", "a.bin"]
    assert among(*names) == []
    with pytest.raises(DownloadError, match="holds no GGUF model"):
        choose([], HubName("o/r"))


def test_a_quantisation_is_found_whatever_its_capital_letters() -> None:
    paths = ("x-Q4_K_M.gguf", "x-q8_0.gguf", "x-UD-Q2_K_XL.gguf", "x-f16.gguf")
    assert chosen(HubName("o/r", "q4_k_m"), *paths) == ("x-Q4_K_M.gguf", "")
    assert chosen(HubName("o/r", "Q8_0"), *paths)[0] == "x-q8_0.gguf"
    assert chosen(HubName("o/r", "q2_k_xl"), *paths)[0] == "x-UD-Q2_K_XL.gguf"
    assert chosen(HubName("o/r", "FP16"), *paths)[0] == "x-f16.gguf"


def test_one_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(DownloadError, match=r"no version Q5_K_M.* Q4_K_M .*, Q8_0 ") as caught:
        chosen(HubName("o/r", "Q5_K_M"), "x-Q4_K_M.gguf", "x-Q8_0.gguf")
    assert caught.value.details["available"] == ["Q4_K_M", "Q8_0"]
    # Never a part of a word: Q4_K is not Q4_K_M.
    with pytest.raises(DownloadError, match="no version Q4_K"):
        chosen(HubName("o/r", "Q4_K"), "x-Q4_K_M.gguf")
    with pytest.raises(DownloadError, match=r"more than one model .*Name a file: \"hf:o/r/a-1B"):
        chosen(HubName("o/r", "Q8_0"), "a-1B-Q8_0.gguf", "a-7B-Q8_0.gguf")
    with pytest.raises(DownloadError, match="no model file"):
        chosen(HubName("o/r", None, "y.gguf"), "x-Q8_0.gguf")


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["x-Q8_0", "x-Q4_K_M", "x-Q5_K_M"], "x-Q4_K_M"),
        (["x-Q8_0", "x-Q4_K_S", "x-Q2_K"], "x-Q4_K_S"),
        (["x-Q8_0", "x-Q6_K", "x-F16"], "x-Q6_K"),
        (["x-Q2_K", "x-F16"], "x-Q2_K"),
        (["x-Q4_1", "x-Q4_K_L", "x-IQ4_NL"], None),  # two as near: ambiguous only if both equal
        (["x-UD-Q4_K_M", "x-Q8_0"], "x-UD-Q4_K_M"),
    ],
)
def test_without_one_the_usual_or_the_nearest_is_taken_and_said(
    there: list[str], expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(DownloadError, match="more than one model"):
            chosen(HubName("o/r"), *(f"{name}.gguf" for name in there))
        return
    path, why = chosen(HubName("o/r"), *(f"{name}.gguf" for name in there))
    assert path == f"{expected}.gguf"
    assert quant_in(path).removeprefix("UD-") in why
    assert "Q4_K_M" in why
    assert chosen(HubName("o/r"), "only-one.gguf") == ("only-one.gguf", "")


def test_a_file_may_be_named_by_any_of_its_parts() -> None:
    parts = [f"d/big-0000{n}-of-00002.gguf" for n in (1, 2)]
    assert chosen(HubName("o/r", None, parts[1]), *parts, "x.gguf")[0] == parts[0]


def test_versions_of_one_model_are_one_family() -> None:
    paths = ["m-1B-Q4_K_M.gguf", "m-1B-UD-Q2_K_XL.gguf", "q/m-1B-F16-00001-of-00002.gguf"]
    assert len({family_of(model) for model in among(*paths)}) == 1
    assert len({family_of(model) for model in among(*paths, "m-7B-Q4_K_M.gguf")}) == 2


@given(st.lists(st.text(max_size=60).map(lambda t: f"{t}.gguf"), unique=True, max_size=20))
def test_every_file_is_in_one_model_at_most_whatever_it_is_called(paths: list[str]) -> None:
    models = among(*paths)
    seen = [file.path for model in models for file in model.files]
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(paths)
    for model in models:
        assert choose(models, HubName("o/r", None, model.path))[0] == model or not model.complete
