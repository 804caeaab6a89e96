"""The messages and their frames, against bytes of every kind."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import InvalidValueError, ProtocolError
from gguf_widgets.core.types import (
    EngineStats,
    Failed,
    Finished,
    FinishReason,
    LoadSettings,
    Message,
    PrefillProgress,
    PromptToken,
    Reply,
    SamplingSettings,
    TemplateFacts,
    TextDelta,
    Timings,
    ToolRequest,
    Usage,
    VocabularyFacts,
)
from gguf_widgets.core.worker import framing, protocol, score_messages
from gguf_widgets.core.worker.framing import FrameReader
from gguf_widgets.core.worker.protocol import Prompt

CLIENT_MESSAGES = [
    protocol.Hello(protocol_version=1, package_version="0.1.0", nonce="n", proof="p"),
    protocol.Generate(
        request_id="c1-1",
        prompt=Prompt(messages=[Message(role="user", content="Grüße 🙂\0")]),
        sampling=SamplingSettings(logit_bias={3: float("-inf")}, stop=("a", "b")),
    ),
    protocol.Tokenize(request_id="c1-2", text="x"),
    protocol.Detokenize(request_id="c1-3", tokens=[1, 2]),
    protocol.Render(request_id="c1-4", prompt=Prompt(text="")),
    protocol.ShowPrompt(
        request_id="c1-6",
        prompt=Prompt(
            messages=[
                Message(
                    role="assistant",
                    content="",
                    tool_calls=[ToolRequest(id="1", name="f", arguments={"a": [1, None]})],
                    reasoning_content="so",
                ),
                Message(role="tool", content="x", tool_call_id="1", name="f"),
            ],
            tools=[{"type": "function", "function": {"name": "f"}}],
            variables={"enable_thinking": False},
            begin_tokens=[1, 2],
            constrain_begin=False,
        ),
    ),
    protocol.GetTemplateFacts(request_id="c1-7", chat_template="{{ 1 }}"),
    score_messages.Score(
        request_id="c1-8", tokens=[1, 2], before=Prompt(text="a"), halves=False, top=3, full=True
    ),
    score_messages.ScoreTaken(request_id="c1-8", num_pieces=2),
    score_messages.GetVocabulary(request_id="c1-9"),
    protocol.GetStats(request_id="c1-5"),
    protocol.Abort(request_id="c1-1"),
    protocol.Ping(nonce=7),
    protocol.Leave(),
    protocol.Stop(reason="enough"),
]

_REPLY = Reply(
    text="hi",
    finish_reason=FinishReason.STOP,
    usage=Usage(num_prompt_tokens=3, num_completion_tokens=2),
    timings=Timings(queue_s=0, prefill_s=0.1, decode_s=0.2, ttft_s=0.1, total_s=0.3),
    seed=2**32 - 2,
)

SERVER_MESSAGES = [
    protocol.Welcome(
        protocol_version=1, package_version="0.1.0", client_id="c1", pid=5, backend="scripted"
    ),
    protocol.Refused(
        protocol_version=9,
        package_version="9",
        error={"kind": "ProtocolError", "message": "m", "details": {"a": [1, None]}},
    ),
    protocol.LoadProgress(fraction=0.5, phrase="Loading"),
    protocol.LoadFailed(error={"kind": "ModelLoadError", "message": "m", "details": {}}),
    PrefillProgress(request_id="c1-1", num_done=1, num_total=2),
    TextDelta(request_id="c1-1", text="é", num_completion_tokens=1),
    Finished(request_id="c1-1", reply=_REPLY),
    Failed(request_id="c1-1", error={"kind": "DecodeError", "message": "m", "details": {}}),
    protocol.Tokens(request_id="c1-2", tokens=[]),
    score_messages.ScoreBegun(
        request_id="c1-8",
        tokens=b"\1\0\0\0",
        num_before=0,
        num_scored=1,
        halves=True,
        n_window=512,
        num_windows=1,
        n_vocab=2,
    ),
    score_messages.ScorePiece(
        request_id="c1-8", first=1, count=1, num_top=0, logprobs=b"\0\0\0\0", texts=[(1, "a")]
    ),
    score_messages.Scored(request_id="c1-8", num_scored=1, num_bytes=1),
    score_messages.VocabularyTold(
        request_id="c1-9", facts=VocabularyFacts(n_vocab=2, digest="d", ends=(1,))
    ),
    protocol.Text(request_id="c1-3", text=""),
    protocol.Rendered(request_id="c1-4", text="t", num_tokens=1),
    protocol.PromptShown(
        request_id="c1-6", tokens=[PromptToken(7, "<s>", True), PromptToken(-1, "[image 1]")]
    ),
    protocol.Facts(
        request_id="c1-7",
        facts=TemplateFacts(native_tools=True, thinking_levels=("low", "high"), notes=("a",)),
    ),
    protocol.Stats(
        request_id="c1-5",
        engine=EngineStats(num_running=1, num_waiting=0, num_cells_used=2, num_cells=3),
        num_clients=1,
        num_requests=1,
        uptime_s=0.5,
        rss_bytes=2**40,
    ),
    protocol.Pong(nonce=7),
    protocol.Goodbye(reason="done", ending=True),
]


def _payload(frame: bytes) -> bytes:
    (payload,) = FrameReader().feed(frame)
    return payload


@pytest.mark.parametrize("message", CLIENT_MESSAGES, ids=lambda m: type(m).__name__)
def test_what_a_client_says_arrives_as_it_was(message: object) -> None:
    assert framing.decode_client_message(_payload(framing.encode(message))) == message


@pytest.mark.parametrize("message", SERVER_MESSAGES, ids=lambda m: type(m).__name__)
def test_what_a_worker_says_arrives_as_it_was(message: object) -> None:
    assert framing.decode_server_message(_payload(framing.encode(message))) == message


def test_the_effective_settings_arrive_as_they_were() -> None:
    settings = LoadSettings(n_ctx=4096, type_k="q8_0", use_mmap=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=LoadSettings) == settings


@given(payloads=st.lists(st.binary(max_size=300), max_size=8), data=st.data())
def test_frames_come_out_whole_however_the_stream_is_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(len(p).to_bytes(4, "big") + p for p in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = FrameReader()
    out: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += reader.feed(stream[start:end])
    assert out == payloads


@given(st.binary(max_size=400))
def test_bytes_from_a_stranger_can_only_be_a_message_or_a_protocol_error(data: bytes) -> None:
    for decode in (framing.decode_client_message, framing.decode_server_message):
        with contextlib.suppress(ProtocolError):
            decode(data)
    framing.request_id_of(data)
    with contextlib.suppress(ProtocolError):
        list(FrameReader(limit=1000).feed(data))


def test_bytes_nested_without_end_are_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        framing.decode_client_message(b"\x81\xa4type" + b"\x91" * 200_000)
    assert framing.request_id_of(b"\x91" * 200_000) is None


def test_an_announced_length_over_the_limit_is_refused_before_anything_is_kept() -> None:
    reader = FrameReader(limit=100)
    with pytest.raises(ProtocolError, match="101 bytes"):
        list(reader.feed((101).to_bytes(4, "big")))


def test_half_a_character_is_refused_where_it_is_sent() -> None:
    with pytest.raises(InvalidValueError, match=r"half a character \(U\+D83D at position 2\)"):
        framing.encode(protocol.Tokenize(request_id="c1-1", text="ab\ud83d"))


def test_a_request_over_the_limit_is_refused_where_it_is_sent() -> None:
    text = "x" * (framing.MAX_MESSAGE_BYTES + 1)
    with pytest.raises(InvalidValueError, match="at most 33,554,432"):
        framing.encode(protocol.Tokenize(request_id="c1-1", text=text))


def test_a_prompt_begins_in_one_way_and_has_tools_only_with_messages() -> None:
    with pytest.raises(InvalidValueError, match="both were given"):
        Prompt(text="a", begin_text="b", begin_tokens=[1]).check()
    with pytest.raises(InvalidValueError, match="this prompt is no conversation"):
        Prompt(tokens=[1], variables={"x": 1}).check()


@pytest.mark.parametrize(
    "prompt", [Prompt(), Prompt(text="a", tokens=[1]), Prompt(tokens=[], messages=[])]
)
def test_a_prompt_is_exactly_one_thing(prompt: Prompt) -> None:
    with pytest.raises(InvalidValueError, match="one of text, tokens or messages"):
        prompt.check()
