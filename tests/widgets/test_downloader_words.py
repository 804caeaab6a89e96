"""What `ModelDownloader` says: versions, fits, downloads and errors in everyday words."""

from __future__ import annotations

import datetime as dt
from typing import Any

from gguf_widgets.core.download import Progress
from gguf_widgets.core.download.jobs import DownloadJob
from gguf_widgets.core.download.remote import Fit
from gguf_widgets.core.download.repo_files import RepoFile, RepoModel
from gguf_widgets.core.errors import DownloadError, MissingDependencyError
from gguf_widgets.widgets._downloader_errors import error_view
from gguf_widgets.widgets._downloader_versions import recommended
from gguf_widgets.widgets._downloader_words import age_words, fit_view, job_view, quant_words


def test_quantisations_in_words() -> None:
    assert quant_words("Q4_K_M") == "4 bits: the usual choice"
    assert quant_words("UD-Q4_K_M") == "4 bits: the usual choice"
    for quant, bits in {
        "Q4_K_S": 4, "IQ2_XXS": 2, "UD-IQ1_S": 1, "Q8_0": 8, "F16": 16, "BF16": 16, "F32": 32,
        "MXFP4_MOE": 4, "NVFP4": 4, "TQ1_0": 1, "Q6_K": 6,
    }.items():  # fmt: skip
        assert quant_words(quant).startswith(f"{bits} bit"), quant
    assert quant_words("") == quant_words("WHATEVER") == ""


def test_how_long_ago_in_words() -> None:
    now = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    for days, words in {
        -3: "today", 0: "today", 1: "yesterday", 2: "2 days ago", 7: "1 week ago",
        29: "4 weeks ago", 30: "1 month ago", 364: "12 months ago", 800: "2 years ago",
    }.items():  # fmt: skip
        assert age_words(now - dt.timedelta(days=days), now) == words
    assert age_words(None) == ""


def model(quant: str, size: int, verdict: Any, n_ctx: int | None = None) -> RepoModel:
    fit = Fit(verdict, size, 5, "Because.", "header", n_ctx) if verdict else None
    return RepoModel((RepoFile(f"x-{quant}.gguf", size),), quant, fit=fit)


def test_what_is_recommended_fits_this_machine() -> None:
    small, usual, large = ("Q2_K", 2), ("Q4_K_M", 4), ("Q8_0", 8)

    def first(*verdicts: str | None) -> tuple[str, str]:
        sizes = zip((small, usual, large), verdicts, strict=True)
        found, why = recommended([model(*size, verdict) for size, verdict in sizes])
        return ("" if found is None else found.quantization), why

    assert first("yes", "yes", "yes") == ("Q4_K_M", "recommended")
    assert first("yes", "with_settings", "no") == ("Q4_K_M", "recommended")
    assert first("yes", "no", "no") == ("Q2_K", "the largest that fits")
    assert first("with_settings", "no", "no") == ("Q2_K", "the largest that fits")
    assert first("no", "no", "no") == ("", "")
    assert first(None, None, None) == ("Q4_K_M", "recommended")
    assert recommended([]) == (None, "")
    twins = [model(*usual, "yes"), model(*usual, "yes")]
    assert recommended(twins) == (None, "")  # another model each: nobody can choose for you
    assert recommended([model("Q8_0", 8, "yes"), model("Q5_K_M", 5, "yes")])[1] == (
        "nearest to the usual"
    )


def test_a_fit_in_words() -> None:
    said = fit_view(Fit("with_settings", 9, 5, "Because.", "header", 8192))
    assert said == {
        "verdict": "with_settings", "text": "fits with 8,192 tokens", "sentence": "Because.",
    }  # fmt: skip
    for fit, text in (
        (Fit("with_settings", 9, 5, "", "header"), "fits with smaller settings"),
        (Fit("no", 9, 5, "", "scaled"), "too large for this computer"),
        (Fit("no", 9, 5, "", "size"), "may be too large"),
        (Fit("yes", 9, 5, "", "size"), "should fit"),
    ):
        view = fit_view(fit)
        assert view is not None
        assert view["text"] == text
    assert fit_view(None) is None


def job(state: Any, phase: Any = "fetching", **more: Any) -> dict[str, Any]:
    progress = Progress(phase, "x.gguf", **more.pop("progress", {}))
    return job_view(DownloadJob("1", "hf:a/b/x.gguf", state, progress=progress, **more))


def test_a_download_in_words() -> None:
    half = {"received_bytes": 1_200_000_000, "total_bytes": 4_600_000_000}
    fast = half | {"bytes_per_s": 11_300_000.0, "seconds_left": 301.0}
    phrase = job("running", progress=fast)["phrase"]
    assert phrase.replace("\u00a0", " ") == "1.2 of 4.6 GB · 11.3 MB/s · about 5 min left"
    many = job("running", progress=half | {"num_files": 3, "file_number": 2})["phrase"]
    assert many.endswith("file 2 of 3")
    assert job("waiting", "asking", place=2)["phrase"] == "Waits for its turn (2 before it)"
    # What was here before counts while it is looked at again.
    again = job(
        "running", "checking", kept_bytes=1_200_000_000, progress={"total_bytes": 4_600_000_000}
    )
    assert again["percent"] == "26%"
    assert again["phrase"].replace("\u00a0", " ") == "1.2 of 4.6 GB · checks what is here already"
    paused = job("paused", kept_bytes=1_200_000_000, progress=half)
    assert paused["ask"] == "Throw away the 1.2 GB that have arrived?"
    assert job("paused", "asking")["ask"] == ""
    kept = job("failed", kept_bytes=5, error=DownloadError("X.", problem="unreachable"))
    assert kept["actions"] == ["cancel"]
    assert "That is kept" in kept["phrase"]
    assert kept["error"]["goesOn"]
    assert job("failed", error=DownloadError("X.", problem="not_gguf"))["actions"] == ["dismiss"]


def test_errors_say_what_to_do_and_no_command_line_options() -> None:
    space = error_view(
        DownloadError("", problem="no_space", needed_bytes=4_600_000_000, free_bytes=3_100_000_000)
    )
    assert "Make room for 1.6 GB more" in space["text"]
    gated = error_view(DownloadError("", problem="gated"), name="hf:a/b:Q4_K_M")
    assert gated["command"] == "hf auth login"
    assert gated["again"]
    other = error_view(DownloadError("", problem="no_such_quantization"), name="hf:a/b:Q4_K_M")
    assert (other["find"], other["again"]) == ("hf:a/b", False)
    taken = error_view(DownloadError("Choose another folder (--to).", problem="name_taken"))
    none = error_view(DownloadError("gguf-widgets get --search b", problem="no_models"))
    assert "--" not in taken["text"] + none["text"]
    missing = error_view(
        MissingDependencyError("Needs x. Install it: pip install x", install="pip install x")
    )
    assert missing["text"] == "Needs x. Install it with this line, then restart Python:"
