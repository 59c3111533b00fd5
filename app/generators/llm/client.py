"""One question to one provider, and its answer: retries, pacing, a circuit breaker, refused parameters.

What an answer is worth is not judged here, and nothing is stored: see `talk`.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import (
    AnswerEmpty,
    AnswerFiltered,
    DeadlinePassed,
    ModelUnknown,
    PromptTooLong,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefusedKey,
    ProviderRefusedRequest,
    ProviderUnavailable,
)
from app.generators.llm.providers import Mode, Provider
from app.generators.llm.structured import Shape, in_words

if TYPE_CHECKING:
    import openai

ATTEMPTS = 5
"""Times that a question is put to a provider that does not answer it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
BREAKS_AFTER = 8
"""Failures in a row, over all requests, after which a provider is not asked for a while."""
COOLS_FOR = 30.0
_TOLD_OF_MACHINES = tuple(
    f"X-Stainless-{name}"
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
)
_TOLD_OF_REQUESTS = ("X-Stainless-Retry-Count", "X-Stainless-Read-Timeout")
"""What the package would tell a provider about this machine and this process. It is left out."""
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "grammar", "schema")
_STEPS: Mapping[Mode, tuple[Mode, ...]] = {
    "auto": ("json_schema", "json_object", "text"),
    "json_schema": ("json_schema",),
    "json_object": ("json_object",),
    "json_object_schema": ("json_object_schema",),
    "text": ("text",),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a conversation, and the shape of the answer.

    Parameters
    ----------
    purpose : str
        What for, in a few words; for progress and the transcript.
    messages : tuple of (role, text)
        In order.
    name : str
        Of the answer's shape: letters, digits and underscores.
    shape : Shape
        Of the answer.
    max_tokens : int
        That the answer may take.
    """

    purpose: str
    messages: tuple[tuple[str, str], ...]
    name: str
    shape: Shape
    max_tokens: int = 4000

    def again(self, answer: str, fault: str) -> Question:
        """Return the question put once more, after an answer that cannot be used."""
        more = (("assistant", answer), ("user", fault))
        return Question(self.purpose, (*self.messages, *more), self.name, self.shape, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as it came."""

    text: str
    finish_reason: str
    refusal: str | None
    prompt_tokens: int
    completion_tokens: int
    model: str
    seconds: float


@dataclass
class Learned:
    """What a provider has shown of itself; kept as long as the process, shared by its threads."""

    dropped: set[str] = field(default_factory=set)
    step: int = 0
    completion_parameter: str | None = None
    failures: int = 0
    open_until: float = 0.0
    not_before: float = 0.0
    probing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """Asks one provider. Threads may share it.

    Parameters
    ----------
    provider : Provider
    learned : Learned, optional
        What earlier jobs of this process found out about it.
    clock, sleep : callable
        Monotonic seconds, and how to wait; tests bring their own.
    """

    def __init__(
        self,
        provider: Provider,
        learned: Learned | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.provider = provider
        self._learned = learned or Learned()
        self._clock, self._sleep = clock, sleep
        self._deadline = clock() + provider.deadline
        self._sdk: openai.OpenAI | None = None
        self._lock = threading.Lock()

    def ask(self, question: Question) -> Answer:
        """Put a question; return what came back.

        Raises
        ------
        ProviderError
            Its subclass says what to do.
        """
        pause, attempt = FIRST_PAUSE, 0
        while True:
            self._wait_for_turn()
            try:
                answer = self._once(question)
            except _Dropped:
                continue  # the same question in a plainer form; each form is tried once
            except _Passing as failure:
                attempt += 1
                wait = failure.retry_after
                if wait is None:
                    wait = pause * random.uniform(0.5, 1.0)
                self._failed(failure, wait)
                if attempt >= ATTEMPTS:
                    raise failure.error from failure
                if self._clock() + wait > self._deadline:
                    raise self._too_late(failure, wait) from failure
                pause = min(LONGEST_PAUSE, pause * 2)
                self._sleep(wait)
            except ProviderError:
                self._answered()  # a definite no is an answer, too
                raise
            else:
                self._answered()
                return answer

    # One attempt -------------------------------------------------------------------------------------

    def _once(self, question: Question) -> Answer:
        import openai

        form = self._form()
        began = self._clock()
        try:
            got = self._openai().chat.completions.create(
                **self._body(question, form),
                extra_headers=dict.fromkeys(_TOLD_OF_REQUESTS, openai.omit),
                timeout=max(1.0, min(self.provider.timeout, self._deadline - began)),
            )
        except openai.APIStatusError as error:
            raise self._meant(error, form) from error
        except openai.APITimeoutError as error:
            raise _Passing(
                ProviderUnavailable(
                    f"`{self.provider.name}` gives no answer within {self.provider.timeout:g} s."
                )
            ) from error
        except openai.OpenAIError as error:
            raise _Passing(
                ProviderUnavailable(
                    f"`{self.provider.name}` cannot be reached, or does not speak the protocol "
                    f"({type(error).__name__})."
                )
            ) from error
        except ValueError as error:  # a body that is not JSON
            raise _Passing(
                ProviderUnavailable(f"`{self.provider.name}` answers with something that is not JSON.")
            ) from error
        return self._answer(got, self._clock() - began)

    def _answer(self, got: Any, seconds: float) -> Answer:
        choices = getattr(got, "choices", None)
        usage = getattr(got, "usage", None)
        if not choices or choices[0].message is None:
            raise _Passing(
                AnswerEmpty(f"`{self.provider.name}` answered without an answer in it, {ATTEMPTS} times.")
            )
        first = choices[0]
        text = first.message.content or ""
        refusal = getattr(first.message, "refusal", None) or None
        if not text and not refusal and first.finish_reason == "stop":
            raise _Passing(
                AnswerEmpty(f"`{self.provider.name}` answered with an empty text, {ATTEMPTS} times.")
            )
        return Answer(
            text=text,
            finish_reason=first.finish_reason or "stop",
            refusal=refusal,
            prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
            completion_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
            model=str(getattr(got, "model", "") or self.provider.model),
            seconds=round(seconds, 3),
        )

    def _openai(self) -> openai.OpenAI:
        with self._lock:
            if self._sdk is None:
                import openai

                # Retries are ours: the package's own know neither deadline nor breaker.
                self._sdk = openai.OpenAI(
                    base_url=self.provider.base_url,
                    api_key=self.provider.api_key or "none",
                    max_retries=0,
                    default_headers=dict.fromkeys(_TOLD_OF_MACHINES, openai.omit),  # type: ignore[arg-type]
                    organization=None,
                    project=None,
                )
            return self._sdk

    def _form(self) -> Mode:
        steps = _STEPS[self.provider.mode]
        return steps[min(self._learned.step, len(steps) - 1)]

    def _body(self, question: Question, form: Mode) -> dict[str, Any]:
        messages = [{"role": role, "content": text} for role, text in question.messages]
        body: dict[str, Any] = {"model": self.provider.model, "messages": messages}
        body[self._limit_name()] = question.max_tokens
        if form == "json_schema":
            schema = {"name": question.name, "strict": True, "schema": question.shape}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object_schema":
            body["response_format"] = {"type": "json_object", "schema": question.shape}
        elif form == "json_object":
            body["response_format"] = {"type": "json_object"}
        if form in ("json_object", "text"):
            shape = f"Answer with one JSON object of this form and nothing else:\n{in_words(question.shape)}"
            messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{shape}"}
        for name in self._learned.dropped:
            body.pop(name, None)
        return body

    def _limit_name(self) -> str:
        if self._learned.completion_parameter is not None:
            return self._learned.completion_parameter
        newer = "openai." in self.provider.base_url  # api.openai.com, *.openai.azure.com
        return "max_completion_tokens" if newer else "max_tokens"

    # What a failure means ----------------------------------------------------------------------------

    def _meant(self, error: openai.APIStatusError, form: Mode) -> Exception:
        status, name = error.status_code, self.provider.name
        told = error.body if isinstance(error.body, dict) else {}
        code = str(told.get("code") or told.get("type") or "")
        said = str(told.get("message") or "")[:300]
        if self.provider.api_key:
            said = said.replace(self.provider.api_key, "(key)")
        words = f"{code} {told.get('param') or ''} {said}".lower()
        if status == 429 and ("insufficient_quota" in words or "billing" in words):
            return ProviderQuotaExhausted(f"`{name}` says that the account's quota is exhausted.")
        if status == 429:
            return _Passing(
                ProviderRateLimited(f"`{name}` answers 429, too many requests, again and again."),
                self._retry_after(error),
            )
        if status in (401, 403):
            return ProviderRefusedKey(f"`{name}` answers {status}: the configured key does not open it.")
        if status == 402:
            return ProviderQuotaExhausted(f"`{name}` answers 402: the account has nothing left to spend.")
        if status == 404:
            return ModelUnknown(
                f"`{name}` answers 404: it has no model `{self.provider.model}`, or its address is not right."
            )
        if status in (408, 409, 425) or status >= 500:
            return _Passing(
                ProviderUnavailable(f"`{name}` answers {status}, again and again."), self._retry_after(error)
            )
        if "content_filter" in words or "content management policy" in words:
            return AnswerFiltered(f"`{name}`'s content filter objects to the prompt.")
        if "context_length" in words or "context length" in words or "context size" in words:
            return PromptTooLong(f"`{name}` says that the prompt does not fit its context window.")
        if self._plainer(words, form):
            return _Dropped()
        return ProviderRefusedRequest(f"`{name}` answers {status}: {said or 'without a reason'}")

    def _plainer(self, words: str, form: Mode) -> bool:
        """Give up what a provider refuses, and remember it; return whether there was anything to give up."""
        learned, steps = self._learned, _STEPS[self.provider.mode]
        with learned.lock:
            for one, other in (
                ("max_completion_tokens", "max_tokens"),
                ("max_tokens", "max_completion_tokens"),
            ):
                if f"'{one}'" in words or one in words.split() or f"`{one}`" in words or f" {one}:" in words:
                    if self._limit_name() == one and learned.completion_parameter is None:
                        learned.completion_parameter = other
                        return True
                    if other not in words and one not in learned.dropped:
                        learned.dropped.add(one)
                        return True
            about_format = any(word in words for word in _ABOUT_FORMAT)
            if about_format and form in steps[:-1] and steps.index(form) == learned.step:
                learned.step += 1
                return True
            # Another thread may have learned it while this request was under way.
            return about_format and form in steps and steps.index(form) < learned.step

    def _retry_after(self, error: openai.APIStatusError) -> float | None:
        headers = error.response.headers
        try:
            if "retry-after-ms" in headers:
                return max(0.0, float(headers["retry-after-ms"]) / 1000)
            text = headers.get("retry-after")
            if text is None:
                return None
            try:
                return max(0.0, float(text))
            except ValueError:
                return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError):
            return None

    # Turns -------------------------------------------------------------------------------------------

    def _wait_for_turn(self) -> None:
        """Wait while the provider asks to; raise where it is not to be asked at all."""
        learned = self._learned
        while True:
            with learned.lock:
                moment = self._clock()
                if moment >= self._deadline:
                    raise DeadlinePassed(
                        f"`{self.provider.name}` took longer than {self.provider.deadline:g} s for this job."
                    )
                if learned.failures >= BREAKS_AFTER:
                    if moment < learned.open_until or learned.probing:
                        raise ProviderUnavailable(
                            f"`{self.provider.name}` failed {learned.failures} times in a row; it is left "
                            f"alone for {COOLS_FOR:g} s."
                        )
                    learned.probing = True  # one request finds out whether it is back
                    return
                wait = min(learned.not_before, self._deadline) - moment
            if wait <= 0:
                return
            self._sleep(wait)

    def _failed(self, failure: _Passing, wait: float) -> None:
        learned = self._learned
        with learned.lock:
            moment = self._clock()
            learned.failures += 1
            learned.probing = False
            learned.open_until = moment + COOLS_FOR
            if failure.retry_after is not None:  # what one request was told goes for all
                learned.not_before = max(learned.not_before, moment + wait)

    def _answered(self) -> None:
        with self._learned.lock:
            self._learned.failures = 0
            self._learned.probing = False

    def _too_late(self, failure: _Passing, wait: float) -> ProviderError:
        if failure.retry_after is None:
            return failure.error
        return ProviderRateLimited(
            f"`{self.provider.name}` asks to wait {wait:.0f} s, which is beyond the job's deadline."
        )


class _Passing(Exception):
    """A failure that may pass."""

    def __init__(self, error: ProviderError, retry_after: float | None = None) -> None:
        super().__init__(error.detail)
        self.error, self.retry_after = error, retry_after


class _Dropped(Exception):
    """The provider refused a parameter, which will not be sent again."""
