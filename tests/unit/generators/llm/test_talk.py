"""Budget, receipts and replays of a job's talk."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from app import errors
from app.generators.llm.client import Question
from app.generators.llm.providers import Provider, Providers
from app.generators.llm.structured import INTEGER, faults_of_shape, listing, read_json, record
from app.generators.llm.talk import Budget, Memory, Talk, Talks, Usage, estimated_tokens
from app.generators.llm.tokens import tokens_of
from tests.fake_provider import (
    FakeProvider,
    Reaction,
    cut_off,
    fails,
    filtered,
    in_turn,
    refuses,
    says,
    serving,
)


def question(number: int = 1, max_tokens: int = 200) -> Question:
    messages = (("system", "You count."), ("user", f"How many are {number}?"))
    return Question(f"count {number}", messages, "count", record(count=INTEGER), max_tokens)


UNLIMITED = Budget()


def talk(
    fake: FakeProvider,
    shelf: Memory | None = None,
    budget: Budget = UNLIMITED,
    told: Any = None,
    **changes: Any,
) -> Talk:
    providers = Providers({"fake": fake.provider(**changes)})
    return Talks(
        providers, Memory() if shelf is None else shelf, told or (lambda usage: None), sleep=lambda _: None
    ).open("fake", budget)


def test_a_reply_has_the_value_that_was_asked_for() -> None:
    with serving(in_turn(says({"count": 3}))) as fake:
        reply = talk(fake).ask(question())
    assert reply.usable and reply.value == {"count": 3}


@pytest.mark.parametrize(("reaction", "kind"), [
    (refuses(), errors.AnswerRefused),
    (filtered(), errors.AnswerFiltered),
    (cut_off('{"count": '), errors.AnswerTruncated),
    (says("I think it is three."), errors.AnswerInvalid),
    (says({"count": "three"}), errors.AnswerInvalid),
    (says({"number": 3}), errors.AnswerInvalid),
    (says('{"count": NaN}'), errors.AnswerInvalid),
])  # fmt: skip
def test_an_answer_that_cannot_be_used_says_why_and_is_paid_for(reaction: Reaction, kind: type) -> None:
    with serving(in_turn(reaction)) as fake:
        one = talk(fake)
        reply = one.ask(question())
    assert not reply.usable and type(reply.problem) is kind
    assert one.usage.prompt_tokens == 100 * len(fake.requests)


def test_an_answer_that_was_cut_off_is_asked_for_once_more_with_more_room() -> None:
    with serving(in_turn(cut_off('{"cou'), says({"count": 3}))) as fake:
        reply = talk(fake).ask(question(max_tokens=200))
    assert reply.value == {"count": 3}
    assert [request["max_tokens"] for request in fake.requests] == [200, 600]


def test_every_answer_is_on_the_shelf_with_what_was_asked_and_no_key() -> None:
    shelf = Memory()
    with serving(in_turn(says({"count": 3}))) as fake:
        talk(fake, shelf).ask(question())
    (data,) = shelf.read()
    receipt = json.loads(data)
    assert receipt["request"]["messages"][1]["content"] == "How many are 1?"
    assert json.loads(receipt["answer"]["text"]) == {"count": 3}
    assert b"sk-secret" not in data


def test_a_failed_request_is_on_the_shelf_too_and_is_asked_again_by_the_next_attempt() -> None:
    shelf = Memory()
    with serving(in_turn(fails(401), says({"count": 3}))) as fake:
        with pytest.raises(errors.ProviderRefusedKey):
            talk(fake, shelf).ask(question())
        assert talk(fake, shelf).ask(question()).value == {"count": 3}
    problems = [json.loads(data)["error"] for data in shelf.read()]
    assert [problem and problem["type"] for problem in problems] == ["/problems/provider-refused-key", None]


def test_an_attempt_after_a_killed_one_pays_for_no_answer_twice() -> None:
    shelf, told = Memory(), list[Usage]()
    with serving(in_turn(says({"count": 3}))) as fake:
        before = talk(fake, shelf)
        before.ask_all([question(number) for number in range(4)])
        after = talk(fake, shelf, told=told.append)
        replies = after.ask_all([question(number) for number in range(6)])
    assert len(fake.requests) == 6
    assert [reply.value for reply in replies] == [{"count": 3}] * 6
    assert told[0] == before.usage and after.usage.requests == 6 and after.usage.tokens == 6 * 120


def test_side_by_side_but_never_more_than_the_provider_allows() -> None:
    slow = says({"count": 3})
    slow.delay = 0.05
    with serving(in_turn(slow)) as fake:
        seen = list[int]()
        talk(fake, concurrency=3).ask_all([question(number) for number in range(12)], seen.append)
    assert 1 < fake.most_at_once <= 3
    assert seen == list(range(1, 13))


def test_replies_come_in_the_order_of_the_questions() -> None:
    def script(request: dict[str, Any]) -> Reaction:
        number = int(request["messages"][1]["content"].split()[-1].rstrip("?"))
        reaction = says({"count": number})
        reaction.delay = 0.02 * (4 - number)
        return reaction

    with serving(script) as fake:
        replies = talk(fake).ask_all([question(number) for number in range(4)])
    assert [reply.value["count"] for reply in replies] == [0, 1, 2, 3]


def test_tokens_are_never_overspent_also_by_requests_side_by_side() -> None:
    with serving(in_turn(says({"count": 3}))) as fake:
        one = talk(fake, budget=Budget(max_tokens=2000))
        with pytest.raises(errors.BudgetReached, match="max_tokens"):
            one.ask_all([question(number, max_tokens=400) for number in range(50)])
    assert 0 < one.usage.tokens <= 2000
    assert len(fake.requests) == one.usage.requests < 50


def test_cost_is_counted_and_stopped_at() -> None:
    prices = {"prompt_price": 10.0, "completion_price": 100.0}
    with serving(in_turn(says({"count": 3}))) as fake:
        one = talk(fake, budget=Budget(max_cost_usd=0.05), **prices)
        with pytest.raises(errors.BudgetReached, match="max_cost_usd"):
            for number in range(50):
                one.ask(question(number))
    assert one.usage.cost_usd is not None and 0 < one.usage.cost_usd <= 0.05
    assert one.usage.cost_usd == pytest.approx(one.usage.requests * (100 * 10 + 20 * 100) / 1e6)


def test_a_limit_of_cost_without_a_price_is_refused_with_the_way_out() -> None:
    with (
        serving(in_turn(says({"count": 3}))) as fake,
        pytest.raises(errors.BudgetReached, match="PROMPT_PRICE"),
    ):
        talk(fake, budget=Budget(max_cost_usd=1.0)).ask(question())
    assert not fake.requests


def test_a_server_that_does_not_count_is_counted_for() -> None:
    uncounted = says({"count": 3})
    del uncounted.body["usage"]
    with serving(in_turn(uncounted)) as fake:
        one = talk(fake)
        one.ask(question())
    assert one.usage.prompt_tokens == estimated_tokens(question()) and one.usage.completion_tokens > 0


def test_answers_that_are_empty_are_counted_and_kept_and_stopped_at() -> None:
    shelf, told = Memory(), list[Usage]()
    with serving(in_turn(says(""), says(""), says({"count": 3}))) as fake:
        assert talk(fake, shelf, told=told.append).ask(question()).usable
    assert [usage.tokens for usage in told] == [120, 240, 360]
    assert [json.loads(data).get("wasted", {}).get("known") for data in shelf.read()] == [True, True, None]
    with serving(in_turn(says(""))) as fake:
        assert talk(fake, shelf).usage.tokens == 360, "an attempt after a killed one knows what was taken"
        with pytest.raises(errors.BudgetReached, match="max_tokens"):
            talk(fake, budget=Budget(max_tokens=500)).ask(question())
    assert len(fake.requests) == 3


def test_what_was_never_answered_may_have_been_charged_for() -> None:
    shelf = Memory()
    with serving(in_turn(Reaction(delay=1.3, body={}))) as fake:
        one = talk(fake, shelf, budget=Budget(max_tokens=600), timeout=1.0)
        with pytest.raises(errors.BudgetReached, match="never answered"):
            one.ask(question())
    assert len(fake.requests) == 2
    assert one.usage.tokens == 0, "usage is what was said to have been used"
    with serving(in_turn(says({"count": 3}))) as fake, pytest.raises(errors.BudgetReached):
        talk(fake, shelf, budget=Budget(max_tokens=600)).ask(question())
    assert not fake.requests


def test_tokens_are_not_underestimated_in_any_script() -> None:
    assert 250 <= tokens_of("blood " * 167) <= 300
    assert tokens_of("血圧" * 500) >= 1000
    assert tokens_of("🧠" * 100) >= 300


def test_an_error_stops_the_questions_that_wait() -> None:
    with serving(in_turn(fails(401))) as fake, pytest.raises(errors.ProviderRefusedKey):
        talk(fake, concurrency=2).ask_all([question(number) for number in range(20)])
    assert len(fake.requests) <= 4


def test_offline_forbids_every_call() -> None:
    providers = Providers({"fake": Provider("fake", "http://127.0.0.1:1/v1", "m")}, offline=True)
    with pytest.raises(errors.OutgoingCallsOff, match="SYNTHWARD_OFFLINE"):
        Talks(providers).open("fake", Budget())


def test_what_is_not_configured_says_what_to_set() -> None:
    with pytest.raises(errors.ProviderNotConfigured, match="SYNTHWARD_LLM__GPT__BASE_URL"):
        Providers().choose("gpt")
    two = Providers({name: Provider(name, "http://x/v1", "m") for name in ("a", "b")})
    with pytest.raises(errors.ProviderNotConfigured, match="a, b"):
        two.choose(None)
    with pytest.raises(errors.ProviderNotConfigured, match="no provider `c`"):
        two.choose("c")
    assert two.choose("A").name == "a"


@pytest.mark.parametrize("text", [
    '{"a": 1}', '```json\n{"a": 1}\n```', 'Here it is: {"a": 1} as asked.', '  {"a": 1}\n',
])  # fmt: skip
def test_json_is_found_also_where_words_stand_around_it(text: str) -> None:
    assert read_json(text) == {"a": 1}


def test_an_answer_of_blanks_is_read_in_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="not one JSON object"):
        read_json("```json" + " " * 1_000_000 + "x")
    assert time.monotonic() - began < 5  # a search that goes back for each blank takes hours


def test_half_a_character_in_json_is_replaced_and_whole_ones_are_not() -> None:
    assert read_json(r'{"\ud800": ["\udc00 a", "\ud83e\udde0", "\\ud800"]}') == {
        "?": ["? a", "🧠", r"\ud800"]
    }


def test_faults_of_shape_say_where() -> None:
    shape = record(items=listing(record(count=INTEGER)))
    assert faults_of_shape({"items": [{"count": 1}, {"count": True}, {}]}, shape) == [
        "answer.items[1].count must be integer", "answer.items[2] lacks `count`",
    ]  # fmt: skip
    assert not faults_of_shape({"items": [{"count": 2.0}]}, shape)
