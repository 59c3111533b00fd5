"""The provider client against a real server on loopback, fault by fault."""

from __future__ import annotations

import email.utils
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from app import errors
from app.generators.llm.client import ATTEMPTS, BREAKS_AFTER, Client, Learned, Question, Wasted
from app.generators.llm.providers import Provider
from app.generators.llm.structured import INTEGER, MAYBE_TEXT, listing, record
from app.generators.llm.transport import MOST_BYTES
from tests.fake_provider import (
    FakeProvider,
    Reaction,
    Script,
    fails,
    in_turn,
    no_choices,
    says,
    serving,
)

QUESTION = Question(
    "a test",
    (("system", "You count."), ("user", "How many?")),
    "count",
    record(count=INTEGER, why=MAYBE_TEXT, parts=listing(INTEGER)),
    200,
)
GOOD = {"count": 3, "why": None, "parts": [1, 2]}


@dataclass
class Watch:
    """A clock that moves when somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(fake: FakeProvider, watch: Watch, learned: Learned | None = None, **changes: Any) -> Client:
    return Client(fake.provider(**changes), learned, clock=watch.clock, sleep=watch.sleep)


def test_a_good_answer_comes_back_with_what_it_took() -> None:
    with serving(in_turn(says(GOOD))) as fake:
        answer = client(fake, Watch()).ask(QUESTION)
    assert answer.text.startswith("{") and answer.finish_reason == "stop"
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)


def test_the_schema_is_one_that_strict_providers_accept() -> None:
    with serving(in_turn(says(GOOD))) as fake:
        client(fake, Watch()).ask(QUESTION)
    asked = fake.requests[0]["response_format"]
    assert asked["type"] == "json_schema" and asked["json_schema"]["strict"] is True
    schema = asked["json_schema"]["schema"]
    assert schema["required"] == list(schema["properties"]) and schema["additionalProperties"] is False


def test_nothing_about_this_machine_is_told_and_the_package_does_not_retry_by_itself() -> None:
    with serving(in_turn(says(GOOD))) as fake:
        client(fake, Watch()).ask(QUESTION)
    assert not [name for name in fake.headers[0] if name.startswith("x-stainless")]
    assert len(fake.requests) == 1


@pytest.mark.parametrize("passing", [
    fails(500), fails(503), fails(408), fails(429, "slow down", "rate_limit_exceeded"), no_choices(),
    Reaction(hang_up=True), Reaction(200, b"<html>gateway</html>"), says(""),
])  # fmt: skip
def test_what_may_pass_is_tried_again(passing: Reaction) -> None:
    watch = Watch()
    with serving(in_turn(passing, says(GOOD))) as fake:
        assert client(fake, watch).ask(QUESTION).text
    assert len(fake.requests) == 2
    assert len(watch.slept) == 1


@pytest.mark.parametrize(("lasting", "kind", "said"), [
    (fails(500), errors.ProviderUnavailable, "500"),
    (fails(429, "slow down"), errors.ProviderRateLimited, "429"),
    (no_choices(), errors.AnswerEmpty, "without an answer"),
    (Reaction(hang_up=True), errors.ProviderUnavailable, "cannot be reached"),
])  # fmt: skip
def test_what_does_not_pass_is_a_problem_of_its_own(lasting: Reaction, kind: type, said: str) -> None:
    watch = Watch()
    with serving(in_turn(lasting)) as fake, pytest.raises(kind, match=said):
        client(fake, watch).ask(QUESTION)
    assert len(fake.requests) == ATTEMPTS
    assert watch.slept == sorted(watch.slept) or len(watch.slept) == ATTEMPTS - 1


@pytest.mark.parametrize(("definite", "kind", "said"), [
    (fails(401, "Incorrect API key provided: sk-secret-of-ours"), errors.ProviderRefusedKey, "401"),
    (fails(403), errors.ProviderRefusedKey, "403"),
    (fails(404, "no such model", "model_not_found"), errors.ModelUnknown, "fake-1"),
    (fails(429, "Check your plan", "insufficient_quota"), errors.ProviderQuotaExhausted, "quota"),
    (fails(402), errors.ProviderQuotaExhausted, "nothing left"),
    (fails(400, "content management policy", "content_filter"), errors.AnswerFiltered, "filter"),
    (fails(400, "maximum context length is 512", "context_length_exceeded"), errors.PromptTooLong, "context"),
    (fails(400, "messages must alternate"), errors.ProviderRefusedRequest, "must alternate"),
])  # fmt: skip
def test_a_definite_no_is_not_tried_again(definite: Reaction, kind: type, said: str) -> None:
    watch = Watch()
    with serving(in_turn(definite)) as fake, pytest.raises(kind, match=said) as caught:
        client(fake, watch).ask(QUESTION)
    assert len(fake.requests) == 1 and not watch.slept
    assert "sk-secret" not in str(caught.value)


def test_a_key_in_an_error_of_the_provider_is_not_repeated() -> None:
    with (
        serving(in_turn(fails(400, "your key sk-secret-of-ours may not do this"))) as fake,
        pytest.raises(errors.ProviderRefusedRequest) as caught,
    ):
        client(fake, Watch()).ask(QUESTION)
    assert "sk-secret" not in caught.value.detail


@pytest.mark.parametrize("before", range(280, 300, 3))
def test_not_even_a_part_of_the_key_is_repeated(before: int) -> None:
    echo = f"{'x' * before}sk-secret-of-ours"
    with (
        serving(in_turn(fails(400, echo))) as fake,
        pytest.raises(errors.ProviderRefusedRequest) as caught,
    ):
        client(fake, Watch()).ask(QUESTION)
    assert "sk-" not in caught.value.detail
    with serving(in_turn(says(echo))) as fake:
        assert "sk-" not in client(fake, Watch()).ask(QUESTION).text


def enveloped(**changes: Any) -> Reaction:
    reaction = says(GOOD)
    reaction.body |= changes
    return reaction


def holding(message: Any) -> Reaction:
    return says(GOOD, message=message)


@pytest.mark.parametrize("odd", [
    enveloped(choices=[None]), enveloped(choices="abc"), enveloped(choices=7), enveloped(choices={"0": 1}),
    enveloped(choices=[[]]), holding("hi"), holding(None), holding([]), holding({"content": 5}),
    holding({"content": [None, 7, {"type": "image"}]}), Reaction(200, b"[" * 3_000_000),
    Reaction(200, b"null"), Reaction(200, b'"text"'), Reaction(200, b"\xff\xfe"), Reaction(204, b""),
])  # fmt: skip
def test_an_envelope_that_is_none_is_tried_again_and_then_a_problem(odd: Reaction) -> None:
    with serving(in_turn(odd, says(GOOD))) as fake:
        assert client(fake, Watch()).ask(QUESTION).text
    with serving(in_turn(odd)) as fake, pytest.raises(errors.ProviderError):
        client(fake, Watch()).ask(QUESTION)
    assert len(fake.requests) == ATTEMPTS


@pytest.mark.parametrize("content", [
    [{"type": "text", "text": '{"count": 3, '}, {"type": "text", "text": '"why": null, "parts": [1, 2]}'}],
    GOOD,
])  # fmt: skip
def test_a_text_in_parts_and_an_object_for_a_text_are_read(content: Any) -> None:
    with serving(in_turn(holding({"content": content}))) as fake:
        assert json.loads(client(fake, Watch()).ask(QUESTION).text) == GOOD


@pytest.mark.parametrize("usage", [
    "many", [1], None, {"prompt_tokens": -5000, "completion_tokens": -9}, {"prompt_tokens": 10**30},
    {"prompt_tokens": "12", "completion_tokens": [3]}, {"prompt_tokens": True, "completion_tokens": {}},
])  # fmt: skip
def test_a_count_that_is_none_is_no_count(usage: Any) -> None:
    with serving(in_turn(enveloped(usage=usage))) as fake:
        answer = client(fake, Watch()).ask(QUESTION)
    assert answer.prompt_tokens is None and answer.completion_tokens is None


def test_half_a_character_is_replaced() -> None:
    raw = json.dumps(
        enveloped(model="\ud800", choices=[{"message": {"content": "a \ud83e b"}}]).body
    ).encode()
    with serving(in_turn(Reaction(body=raw))) as fake:
        answer = client(fake, Watch()).ask(QUESTION)
    assert f"{answer.text}{answer.model}".encode() and answer.text.startswith("a ")


@pytest.mark.parametrize("headers", [
    {"retry_after": "7"}, {"retry_after_ms": "7000"},
])  # fmt: skip
def test_retry_after_is_honoured(headers: dict[str, str]) -> None:
    watch = Watch()
    with serving(in_turn(fails(429, "wait", **headers), says(GOOD))) as fake:
        client(fake, watch).ask(QUESTION)
    assert sum(watch.slept) == pytest.approx(7)


def test_retry_after_may_be_a_date() -> None:
    watch = Watch()
    when = email.utils.formatdate(time.time() + 20, usegmt=True)
    with serving(in_turn(fails(503, "wait", retry_after=when), says(GOOD))) as fake:
        client(fake, watch).ask(QUESTION)
    assert 10 < sum(watch.slept) <= 20


def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    watch = Watch()
    with (
        serving(in_turn(fails(429, "wait", retry_after="3600"))) as fake,
        pytest.raises(errors.ProviderRateLimited, match="3600 s"),
    ):
        client(fake, watch).ask(QUESTION)
    assert len(fake.requests) == 1 and not watch.slept


def test_what_one_request_was_told_to_wait_goes_for_the_next() -> None:
    watch, learned = Watch(), Learned()
    with serving(in_turn(fails(429, "wait", retry_after="9"), says(GOOD))) as fake:
        one = client(fake, watch, learned)
        learned.not_before = watch.now + 4
        one.ask(QUESTION)
    assert sum(watch.slept) == pytest.approx(13)


def test_a_slow_answer_is_given_up() -> None:
    slow = says(GOOD)
    slow.delay = 1.5
    with serving(in_turn(slow, says(GOOD))) as fake:
        assert client(fake, Watch(), timeout=1.0).ask(QUESTION).text
    assert len(fake.requests) == 2


def test_an_answer_that_comes_byte_by_byte_is_given_up_when_its_time_is_over() -> None:
    slow = says(GOOD)
    slow.trickles = 0.2
    began = time.monotonic()
    with serving(in_turn(slow, says(GOOD))) as fake:
        assert client(fake, Watch(), timeout=1.0).ask(QUESTION).text
    assert len(fake.requests) == 2
    assert time.monotonic() - began < 0.2 * len(json.dumps(slow.body)) / 4, "the body was read to its end"


def test_an_answer_without_an_end_is_given_up_before_it_fills_the_memory() -> None:
    packed = gzip.compress(b" " * (MOST_BYTES + 1_000_000) + json.dumps(says(GOOD).body).encode())
    for body, headers in ((packed, {"Content-Encoding": "gzip"}), (b" " * (MOST_BYTES + 1), {})):
        with (
            serving(in_turn(Reaction(body=body, headers=headers))) as fake,
            pytest.raises(errors.ProviderUnavailable, match="more than 16 MB"),
        ):
            client(fake, Watch()).ask(QUESTION)
        assert len(fake.requests) == 1


def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(json.dumps(says(GOOD).body).encode())
    with serving(in_turn(Reaction(body=packed, headers={"Content-Encoding": "gzip"}))) as fake:
        assert json.loads(client(fake, Watch()).ask(QUESTION).text) == GOOD


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_asked_whom_the_operator_did_not_name(status: int) -> None:
    with (
        serving(in_turn(says(GOOD))) as other,
        serving(in_turn(Reaction(status, {}, {"Location": f"{other.base_url}/chat/completions"}))) as fake,
        pytest.raises(errors.ProviderRefusedRequest, match="not followed"),
    ):
        client(fake, Watch()).ask(QUESTION)
    assert len(fake.requests) == 1 and not other.requests


def test_nothing_is_asked_after_the_deadline() -> None:
    watch = Watch()
    with serving(in_turn(says(GOOD))) as fake:
        one = client(fake, watch)
        watch.now += 61
        with pytest.raises(errors.DeadlinePassed):
            one.ask(QUESTION)
    assert not fake.requests


def test_a_provider_that_keeps_failing_is_left_alone_and_then_probed_once() -> None:
    watch, learned = Watch(), Learned()
    with serving(in_turn(fails(500))) as fake:
        for _ in range(2):
            with pytest.raises(errors.ProviderUnavailable):
                client(fake, watch, learned, deadline=1e6).ask(QUESTION)
        assert len(fake.requests) == BREAKS_AFTER
        with pytest.raises(errors.ProviderUnavailable, match="left alone"):
            client(fake, watch, learned).ask(QUESTION)
        assert len(fake.requests) == BREAKS_AFTER, "an open breaker lets nothing through"
        watch.now += 31
        fake.script = in_turn(says(GOOD))
        assert client(fake, watch, learned).ask(QUESTION).text
        assert len(fake.requests) == BREAKS_AFTER + 1
        assert client(fake, watch, learned).ask(QUESTION).text


def strict(*refused: tuple[str, Reaction]) -> Script:
    """A provider that refuses some parameters, as long as they are sent."""

    def script(request: dict[str, Any]) -> Reaction:
        for name, reaction in refused:
            form = (request.get("response_format") or {}).get("type")
            if name in request or name == form:
                return reaction
        return says(GOOD)

    return script


MAX_TOKENS = fails(
    400,
    "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
    "unsupported_parameter", "max_tokens",
)  # fmt: skip
JSON_SCHEMA = fails(
    400, "'response_format.type' must be 'json_object' or 'text'", param="response_format.type"
)
JSON_OBJECT = fails(400, "response_format is not supported by this model", param="response_format")


def test_the_limit_of_tokens_goes_by_the_name_that_the_provider_knows() -> None:
    learned = Learned()
    with serving(strict(("max_tokens", MAX_TOKENS))) as fake:
        client(fake, Watch(), learned).ask(QUESTION)
        client(fake, Watch(), learned).ask(QUESTION)
    assert [("max_tokens" in r, r.get("max_completion_tokens")) for r in fake.requests] == [
        (True, None), (False, 200), (False, 200),
    ]  # fmt: skip


def test_a_length_that_is_beyond_the_model_is_shortened_and_that_is_remembered() -> None:
    def script(request: dict[str, Any]) -> Reaction:
        sent = request.get("max_tokens", 10**6)
        said = f"max_tokens is too large: {sent}. This model supports at most 128 completion tokens."
        return says(GOOD) if sent <= 128 else fails(400, said, "invalid_value", "max_tokens")

    learned = Learned()
    with serving(script) as fake:
        client(fake, Watch(), learned).ask(QUESTION)
        client(fake, Watch(), learned).ask(QUESTION)
    assert [request.get("max_tokens") for request in fake.requests] == [200, 128, 128]


@pytest.mark.parametrize("said", [
    "`max_tokens` must be less than or equal to `128`, the maximum value",
    "max_tokens: 200 > 128, which is the maximum allowed number of output tokens for model m-2024-12-17",
])  # fmt: skip
def test_a_limit_is_what_is_called_one(said: str) -> None:
    learned = Learned()
    with serving(in_turn(fails(400, said, param="max_tokens"), says(GOOD))) as fake:
        client(fake, Watch(), learned).ask(QUESTION)
    assert [request["max_tokens"] for request in fake.requests] == [200, 128]


def test_a_number_in_a_models_name_is_no_limit() -> None:
    said = ("Unsupported parameter: 'max_tokens' is not supported with this model (o1-2024-12-17). "
            "Use 'max_completion_tokens' instead.")  # fmt: skip
    learned = Learned()
    with serving(strict(("max_tokens", fails(400, said, "unsupported_parameter", "max_tokens")))) as fake:
        client(fake, Watch(), learned).ask(QUESTION)
    assert fake.requests[-1]["max_completion_tokens"] == 200 and learned.longest_answer is None


def tired() -> Learned:
    return Learned(failures=BREAKS_AFTER, open_until=0.0)


def test_a_probe_that_finds_a_refusal_of_a_parameter_has_found_a_provider() -> None:
    learned = tired()
    with serving(strict(("json_schema", JSON_SCHEMA))) as fake:
        assert client(fake, Watch(), learned).ask(QUESTION).text
        assert client(fake, Watch(), learned).ask(QUESTION).text
    assert not learned.probing and not learned.failures


def test_what_is_asked_beside_a_probe_waits_for_what_it_finds() -> None:
    slow, learned = says(GOOD), tired()
    slow.delay = 0.3
    with serving(in_turn(slow)) as fake:
        one = Client(fake.provider(), learned)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(one.ask, [QUESTION] * 4))
    assert len(answers) == len(fake.requests) == 4


def test_what_never_left_was_not_paid_for() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filling = [socket.socket() for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        provider = Provider("deaf", f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", "m", timeout=1.0)
        watch, told = Watch(), list[Wasted]()
        with pytest.raises(errors.ProviderUnavailable):
            Client(provider, clock=watch.clock, sleep=watch.sleep).ask(QUESTION, told.append)
        for one in filling:
            one.close()
    assert not told


def test_a_key_that_is_a_word_stays_in_answers() -> None:
    with serving(in_turn(says("none of them"))) as fake:
        assert client(fake, Watch(), api_key="none").ask(QUESTION).text == "none of them"


def test_a_rest_that_was_asked_for_goes_for_later_jobs_but_not_for_ever() -> None:
    watch, learned = Watch(), Learned()
    with serving(in_turn(fails(429, "wait", retry_after="1000000000"), says(GOOD))) as fake:
        for _ in range(3):
            with pytest.raises(errors.ProviderRateLimited, match="beyond the job's deadline"):
                client(fake, watch, learned).ask(QUESTION)
        assert len(fake.requests) == 1 and not watch.slept
        watch.now += 3601
        assert client(fake, watch, learned).ask(QUESTION).text


def test_without_json_schema_it_is_json_object_with_the_schema_in_words_and_that_is_remembered() -> None:
    learned = Learned()
    with serving(strict(("json_schema", JSON_SCHEMA))) as fake:
        client(fake, Watch(), learned).ask(QUESTION)
        client(fake, Watch(), learned).ask(QUESTION)
    assert [r["response_format"]["type"] for r in fake.requests] == [
        "json_schema",
        "json_object",
        "json_object",
    ]
    assert '{"count": integer, "why": string | null, "parts": [integer, …]}' in fake.prompts[-1]


def test_a_provider_with_neither_is_asked_in_words_alone() -> None:
    with serving(strict(("json_schema", JSON_SCHEMA), ("json_object", JSON_OBJECT))) as fake:
        client(fake, Watch()).ask(QUESTION)
    assert "response_format" not in fake.requests[-1] and "JSON object of this form" in fake.prompts[-1]


def test_a_mode_that_is_configured_is_kept_to() -> None:
    with (
        serving(strict(("json_schema", JSON_SCHEMA))) as fake,
        pytest.raises(errors.ProviderRefusedRequest),
    ):
        client(fake, Watch(), mode="json_schema").ask(QUESTION)
    with serving(in_turn(says(GOOD))) as fake:
        client(fake, Watch(), mode="json_object_schema").ask(QUESTION)
    assert fake.requests[0]["response_format"]["schema"] == QUESTION.shape
