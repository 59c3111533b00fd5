"""A job's talk with a language model: what it may cost, what it has cost, and a receipt for every answer.

Answers are kept as they come, by a digest of what was asked: whoever does the same job again, after a worker
was killed or an attempt failed, is given them again and pays for none twice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from app.errors import (
    AnswerFiltered,
    AnswerInvalid,
    AnswerRefused,
    AnswerTruncated,
    BudgetReached,
    PromptTooLong,
    ProviderError,
)
from app.generators.llm.client import Answer, Client, Learned, Question, Wasted
from app.generators.llm.providers import Provider, Providers
from app.generators.llm.structured import faults_of_shape, read_json
from app.generators.llm.tokens import tokens_of

MORE_ROOM = 3
"""An answer that was cut off is asked for once more with so many times the room."""


Item = TypeVar("Item")
Result = TypeVar("Result")


class Shelf(Protocol):
    """Where a job's receipts lie. Names sort in the order in which they were put."""

    def read(self) -> Iterator[bytes]:
        """Give what lies there, in order."""

    def put(self, name: str, data: bytes) -> None:
        """Add one."""


@dataclass
class Memory:
    """A shelf that lasts as long as the process; for tests and for talks that nobody keeps."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def read(self) -> Iterator[bytes]:
        """Give what lies there, in order."""
        yield from (self.kept[name] for name in sorted(self.kept))

    def put(self, name: str, data: bytes) -> None:
        """Add one."""
        self.kept[name] = data


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has asked and been answered, over all of its attempts."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None

    @property
    def tokens(self) -> int:
        """Both ways."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may spend; None is no limit."""

    max_tokens: int | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a question came to: a value of the asked shape, or why there is none."""

    value: Any = None
    problem: ProviderError | None = None
    text: str = ""

    @property
    def usable(self) -> bool:
        """Whether there is a value."""
        return self.problem is None


@dataclass
class Talks:
    """The means to ask, as a job is given them: providers, a shelf, and somebody to tell the usage.

    Parameters
    ----------
    providers : Providers
    shelf : Shelf
        Of this job.
    told : callable
        Is told the usage after every answer.
    learned : dict
        What the providers have shown of themselves; outlives the job.
    """

    providers: Providers
    shelf: Shelf = field(default_factory=Memory)
    told: Callable[[Usage], None] = lambda _usage: None
    learned: dict[str, Learned] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def open(self, name: str | None, budget: Budget) -> Talk:
        """Begin, or go on with, the talk with a provider.

        Raises
        ------
        OutgoingCallsOff, ProviderNotConfigured
        """
        provider = self.providers.choose(name)
        learned = self.learned.setdefault(f"{provider.base_url} {provider.model}", Learned())
        client = Client(provider, learned, clock=self.clock, sleep=self.sleep)
        return Talk(client, self.shelf, budget, self.told)


class Talk:
    """Questions of one job to one provider. Threads may share it."""

    def __init__(self, client: Client, shelf: Shelf, budget: Budget, told: Callable[[Usage], None]) -> None:
        self._client, self._shelf, self._budget, self._told = client, shelf, budget, told
        self._lock = threading.Lock()
        self._reserved = Usage()
        self._unknown = Usage()  # of attempts that never said what they took
        self._put = 0
        self._answers: dict[str, Answer] = {}
        self.usage = Usage(cost_usd=self.provider.cost(0, 0))
        for data in shelf.read():
            receipt = json.loads(data)
            if receipt.get("answer") is not None:
                answer = Answer(**receipt["answer"])
                self._answers[receipt["id"]] = answer
                self._count(answer.prompt_tokens or 0, answer.completion_tokens or 0)
            elif receipt.get("wasted") is not None:
                self._count_wasted(**receipt["wasted"])
        if self.usage.requests:
            told(self.usage)

    @property
    def provider(self) -> Provider:
        """Who is asked."""
        return self._client.provider

    def ask(self, question: Question) -> Reply:
        """Put a question; an answer that cannot be used comes back as a reply without a value.

        An answer that was cut off is asked for once more with more room.

        Raises
        ------
        ProviderError
            Where nothing can be asked at all, or the budget does not allow it.
        """
        reply = self._read(question, self._answer(question))
        if isinstance(reply.problem, AnswerTruncated):
            question = replace(question, max_tokens=question.max_tokens * MORE_ROOM)
            try:
                reply = self._read(question, self._answer(question))
            except PromptTooLong:  # with so much room it does not fit the model
                return reply
        return reply

    def ask_all(
        self, questions: Sequence[Question], each: Callable[[int], None] = lambda _: None
    ) -> list[Reply]:
        """Put questions side by side; return the replies in the questions' order. See `side_by_side`."""
        return self.side_by_side(self.ask, questions, each)

    def side_by_side(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        each: Callable[[int], None] = lambda _: None,
    ) -> list[Result]:
        """Do some work that asks, for several items at once; return the results in the items' order.

        Parameters
        ----------
        each : callable
            Is told how many are done, after each.

        Raises
        ------
        ProviderError
            The first that came up; what was not begun is not begun any more.
        """
        done = 0
        stopped = threading.Event()

        def one(item: Item) -> Result:
            nonlocal done
            if stopped.is_set():
                raise CancelledError
            try:
                result = work(item)
            except BaseException:
                stopped.set()
                raise
            with self._lock:
                done += 1
                each(done)
            return result

        if len(items) <= 1 or self.provider.concurrency == 1:
            return [one(item) for item in items]
        with ThreadPoolExecutor(min(self.provider.concurrency, len(items))) as pool:
            futures = [pool.submit(one, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, CancelledError):
                raise error
        return [future.result() for future in futures]

    def _answer(self, question: Question) -> Answer:
        digest = self._digest(question)
        with self._lock:
            known = self._answers.get(digest)
        if known is not None:
            return known
        expected = self._reserve(question)

        told: list[ProviderError] = []

        def wasted(attempt: Wasted) -> None:
            told.append(attempt.error)
            self._waste(digest, question, attempt, expected)

        try:
            answer = self._client.ask(question, wasted)
        except ProviderError as error:
            if error not in told:  # the last attempt has its receipt
                self._keep(digest, question, None, error)
            raise
        finally:
            self._release(expected)
        if not answer.prompt_tokens or answer.completion_tokens is None:
            answer = replace(  # a server that does not count
                answer,
                prompt_tokens=answer.prompt_tokens or expected.prompt_tokens,
                completion_tokens=answer.completion_tokens or tokens_of(answer.text),
            )
        # Stored first: what is counted is what can be given again.
        self._keep(digest, question, answer, None)
        with self._lock:
            self._answers[digest] = answer
            self._count(answer.prompt_tokens or 0, answer.completion_tokens or 0)
            self._told(self.usage)
        return answer

    def _waste(self, digest: str, question: Question, attempt: Wasted, expected: Usage) -> None:
        """Count an attempt that brought nothing, and see whether there is room for another."""
        known = attempt.prompt_tokens is not None or attempt.completion_tokens is not None
        prompt = attempt.prompt_tokens or expected.prompt_tokens
        completion = (attempt.completion_tokens or 0) if known else question.max_tokens
        taken = {"prompt_tokens": prompt, "completion_tokens": completion, "known": known}
        self._keep(digest, question, None, attempt.error, taken)
        with self._lock:
            self._count_wasted(prompt, completion, known)
            self._told(self.usage)
            self._look_at_budget(question, expected, self._reserved)

    def _read(self, question: Question, answer: Answer) -> Reply:
        name = self.provider.name
        if answer.refusal:
            return Reply(problem=AnswerRefused(f"`{name}` declined to answer ({question.purpose})."))
        if answer.finish_reason == "content_filter":
            return Reply(
                problem=AnswerFiltered(f"`{name}`'s content filter withheld an answer ({question.purpose}).")
            )
        if answer.finish_reason == "length":
            return Reply(
                problem=AnswerTruncated(
                    f"`{name}` cut an answer off at {answer.completion_tokens} tokens ({question.purpose})."
                ),
                text=answer.text,
            )
        try:
            value = read_json(answer.text)
        except ValueError as error:
            return Reply(problem=AnswerInvalid(f"{question.purpose}: {error}."), text=answer.text)
        faults = faults_of_shape(value, question.shape)
        if faults:
            return Reply(value, AnswerInvalid(f"{question.purpose}: {'; '.join(faults)}."), answer.text)
        return Reply(value, None, answer.text)

    def _digest(self, question: Question) -> str:
        what = [self.provider.model, question.messages, question.shape, question.max_tokens]
        if question.turn:
            what.append(question.turn)
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def _keep(
        self,
        digest: str,
        question: Question,
        answer: Answer | None,
        error: ProviderError | None,
        wasted: dict[str, Any] | None = None,
    ) -> None:
        moment = dt.datetime.now(dt.UTC)
        with self._lock:
            self._put += 1
            number = self._put
        receipt = {
            "id": digest,
            "at": moment.isoformat(timespec="milliseconds"),
            "purpose": question.purpose,
            "provider": self.provider.name,
            "request": {
                "model": self.provider.model,
                "messages": [{"role": role, "content": text} for role, text in question.messages],
                "shape": question.shape,
                "max_tokens": question.max_tokens,
            },
            "answer": None if answer is None else _as_json(answer),
            "error": None if error is None else {"type": f"/problems/{error.slug}", "detail": error.detail},
        }
        if wasted is not None:
            receipt["wasted"] = wasted
        stamp = f"{moment:%Y%m%dT%H%M%S%f}-{number:05d}-{digest[:12]}"
        self._shelf.put(f"{stamp}.json", json.dumps(receipt, ensure_ascii=False).encode())

    # Budget ------------------------------------------------------------------------------------------

    def _reserve(self, question: Question) -> Usage:
        """Set aside what a request may take at most; raise where the budget does not allow it."""
        prompt = estimated_tokens(question)
        cost = self.provider.cost(prompt, question.max_tokens)
        expected = Usage(1, prompt, question.max_tokens, cost)
        with self._lock:
            self._look_at_budget(question, expected, _plus(self._reserved, expected))
            self._reserved = _plus(self._reserved, expected)
        return expected

    def _look_at_budget(self, question: Question, expected: Usage, reserved: Usage) -> None:
        """Raise where what is used, what may have been, and what is set aside is more than the budget."""
        budget, taken = self._budget, _plus(self.usage, self._unknown)
        unknown = ""
        if self._unknown.requests:
            unknown = f" (up to {self._unknown.tokens} of them by requests that were never answered)"
        if budget.max_tokens is not None and taken.tokens + reserved.tokens > budget.max_tokens:
            raise BudgetReached(
                f"{taken.tokens} tokens are used{unknown}, and the next request ({question.purpose}) may "
                f"take {expected.tokens}: more than the {budget.max_tokens} of `max_tokens`."
            )
        if budget.max_cost_usd is not None:
            if expected.cost_usd is None:
                raise BudgetReached(
                    f"`max_cost_usd` is set, and no price is configured for `{self.provider.name}`: set "
                    f"SYNTHWARD_LLM__{self.provider.name.upper()}__PROMPT_PRICE and "
                    "__COMPLETION_PRICE, or limit `max_tokens` instead."
                )
            spent = taken.cost_usd or 0.0
            if spent + (reserved.cost_usd or 0.0) > budget.max_cost_usd:
                raise BudgetReached(
                    f"${spent:.4f} are spent{unknown.replace('them', 'it')}, and the next request "
                    f"({question.purpose}) may cost ${expected.cost_usd:.4f}: more than the "
                    f"${budget.max_cost_usd:g} of `max_cost_usd`."
                )

    def _release(self, expected: Usage) -> None:
        with self._lock:
            self._reserved = _minus(self._reserved, expected)

    def _count(self, prompt: int, completion: int) -> None:
        self.usage = _plus(self.usage, self._used(prompt, completion))

    def _count_wasted(self, prompt_tokens: int, completion_tokens: int, known: bool) -> None:
        if known:
            self._count(prompt_tokens, completion_tokens)
        else:
            self._unknown = _plus(self._unknown, self._used(prompt_tokens, completion_tokens))

    def _used(self, prompt: int, completion: int) -> Usage:
        return Usage(1, prompt, completion, self.provider.cost(prompt, completion))


def estimated_tokens(question: Question) -> int:
    """Estimate what a question takes, its shape included, before it is asked."""
    texts = [text for _, text in question.messages]
    return tokens_of("".join(texts) + json.dumps(question.shape, ensure_ascii=False)) + 8 * len(texts)


def _as_json(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__slots__}


def _plus(one: Usage, other: Usage) -> Usage:
    cost = (
        None
        if one.cost_usd is None and other.cost_usd is None
        else (one.cost_usd or 0.0) + (other.cost_usd or 0.0)
    )
    return Usage(
        one.requests + other.requests,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        cost,
    )


def _minus(one: Usage, other: Usage) -> Usage:
    cost = None if one.cost_usd is None else one.cost_usd - (other.cost_usd or 0.0)
    return Usage(
        one.requests - other.requests,
        one.prompt_tokens - other.prompt_tokens,
        one.completion_tokens - other.completion_tokens,
        cost,
    )
