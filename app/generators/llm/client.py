"""One question to one provider, and its answer: retries, pacing, a circuit breaker, refused parameters.

What an answer is worth is not judged here, and nothing is stored: see `talk`.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
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
PROBED_EVERY = 0.2
LONGEST_REST = 3600.0
"""Seconds for which a provider is left alone at most, whatever its Retry-After says."""
MOST_TOKENS = 10**9
"""Tokens of one request that a provider's count may say; beyond, it is no count."""
_LEAST_LIMIT = 16
"""Tokens below which a limit that a refusal names is not taken for the model's own."""
_NO_LIMIT = ("unsupported", "not supported", "unrecognized", "unknown", "instead")
_LIMITS = re.compile(
    r"(?:at most|less than or equal to|no more than|up to|maximum(?: value)?(?: allowed)?(?: is| of)?"
    r"|limit(?: is| of)?|<=|≤|>)[\s:=`'\"(]*(\d{1,9})"
)
_SHORTEST_KEY = 8
"""Characters of a key that is masked wherever it appears; a shorter one is a word, such as `none`."""
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
    turn : int
        How often the same has been asked before: another turn's answer is another answer.
    """

    purpose: str
    messages: tuple[tuple[str, str], ...]
    name: str
    shape: Shape
    max_tokens: int = 4000
    turn: int = 0

    def again(self, answer: str, fault: str, turn: int = 0) -> Question:
        """Return the question put once more, after an answer that cannot be used."""
        more = (("assistant", answer), ("user", fault))
        return Question(self.purpose, (*self.messages, *more), self.name, self.shape, self.max_tokens, turn)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as it came; tokens are None where the provider does not count them."""

    text: str
    finish_reason: str
    refusal: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wasted:
    """An attempt that was paid for, or may have been, and brought nothing.

    Parameters
    ----------
    error : ProviderError
        Why it brought nothing.
    prompt_tokens, completion_tokens : int or None
        As the provider counted them; None where it never said: it may have taken what it may take at most.
    """

    error: ProviderError
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass
class Learned:
    """What a provider has shown of itself; kept as long as the process, shared by its threads."""

    dropped: set[str] = field(default_factory=set)
    longest_answer: int | None = None
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

    def ask(self, question: Question, wasted: Callable[[Wasted], None] = lambda _: None) -> Answer:
        """Put a question; return what came back.

        Parameters
        ----------
        wasted : callable
            Is told of each attempt that took tokens, or may have, for nothing; what it raises is raised.

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
                self._answered()  # it is there, whatever it thinks of the question
                continue  # the same question in a plainer form; each form is tried once
            except _Passing as failure:
                attempt += 1
                wait = failure.retry_after
                if wait is None:
                    wait = pause * random.uniform(0.5, 1.0)
                self._failed(failure, wait)
                if failure.wasted is not None:
                    wasted(failure.wasted)
                if attempt >= ATTEMPTS:
                    raise failure.error from failure
                if self._clock() + wait > self._deadline:
                    raise self._too_late(failure, wait) from failure
                pause = min(LONGEST_PAUSE, pause * 2)
                self._sleep(wait)
            except ProviderError:
                self._answered()  # a definite no is an answer, too
                raise
            except BaseException:
                self._no_longer_probing()
                raise
            else:
                self._answered()
                return answer

    # One attempt -------------------------------------------------------------------------------------

    def _once(self, question: Question) -> Answer:
        import openai

        form = self._form()
        longest = min(question.max_tokens, self._learned.longest_answer or MOST_TOKENS)
        began = self._clock()
        try:
            got = self._openai().chat.completions.create(
                **self._body(question, form, longest),
                extra_headers=dict.fromkeys(_TOLD_OF_REQUESTS, openai.omit),
                timeout=max(1.0, min(self.provider.timeout, self._deadline - began)),
            )
        except openai.APIStatusError as error:
            raise self._meant(error, form, longest) from error
        except openai.APITimeoutError as error:
            late = ProviderUnavailable(
                f"`{self.provider.name}` gives no answer within {self.provider.timeout:g} s."
            )
            raise _Passing(late, wasted=Wasted(late) if _was_sent(error.__cause__) else None) from error
        except openai.OpenAIError as error:
            raise self._broken(error) from error
        except (ValueError, RecursionError) as error:  # a body that is not JSON, or brackets without an end
            other = ProviderUnavailable(f"`{self.provider.name}` answers with something that is not JSON.")
            raise _Passing(other, wasted=Wasted(other)) from error
        return self._answer(got, self._clock() - began)

    def _broken(self, error: openai.OpenAIError) -> Exception:
        from app.generators.llm.transport import TooLong

        if isinstance(error.__cause__, TooLong):
            return ProviderUnavailable(f"`{self.provider.name}` {error.__cause__}.")
        unreached = ProviderUnavailable(
            f"`{self.provider.name}` cannot be reached, or does not speak the protocol "
            f"({type(error).__name__})."
        )
        return _Passing(unreached, wasted=Wasted(unreached) if _was_sent(error.__cause__) else None)

    def _answer(self, got: Any, seconds: float) -> Answer:
        """Read an answer's envelope, of which nothing is believed to be as it should."""
        usage = getattr(got, "usage", None)
        prompt, completion = (
            _count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens")
        )
        choices = getattr(got, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        text = self._said(_text_of(getattr(message, "content", None)))
        refusal = self._said(_text_of(getattr(message, "refusal", None))) or None
        reason = getattr(first, "finish_reason", None)
        reason = reason if isinstance(reason, str) and reason else "stop"
        if message is None or (not text and not refusal and reason == "stop"):
            what = "without an answer in it" if message is None else "with an empty text"
            empty = AnswerEmpty(f"`{self.provider.name}` answered {what}, {ATTEMPTS} times.")
            raise _Passing(empty, wasted=Wasted(empty, prompt, completion))
        model = getattr(got, "model", None)
        return Answer(
            text=text,
            finish_reason=self._said(reason),
            refusal=refusal,
            prompt_tokens=prompt,
            completion_tokens=completion,
            model=self._said(model)[:200] if isinstance(model, str) and model else self.provider.model,
            seconds=round(seconds, 3),
        )

    def _said(self, text: str) -> str:
        """Return what a provider said, fit to be kept: whole characters, and never the key."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        key = self.provider.api_key
        return text.replace(key, "(key)") if len(key) >= _SHORTEST_KEY else text

    def _openai(self) -> openai.OpenAI:
        with self._lock:
            if self._sdk is None:
                import openai

                from app.generators.llm.transport import Bounded

                # Retries are ours: the package's own know neither deadline nor breaker.
                self._sdk = openai.OpenAI(
                    base_url=self.provider.base_url,
                    api_key=self.provider.api_key or "none",
                    max_retries=0,
                    default_headers=dict.fromkeys(_TOLD_OF_MACHINES, openai.omit),  # type: ignore[arg-type]
                    organization=None,
                    project=None,
                    http_client=Bounded(),
                )
            return self._sdk

    def _form(self) -> Mode:
        steps = _STEPS[self.provider.mode]
        return steps[min(self._learned.step, len(steps) - 1)]

    def _body(self, question: Question, form: Mode, longest: int) -> dict[str, Any]:
        messages = [{"role": role, "content": text} for role, text in question.messages]
        body: dict[str, Any] = {"model": self.provider.model, "messages": messages}
        body[self._limit_name()] = longest
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

    def _meant(self, error: openai.APIStatusError, form: Mode, longest: int) -> Exception:
        status, name = error.status_code, self.provider.name
        told = error.body if isinstance(error.body, dict) else {}
        code = str(told.get("code") or told.get("type") or "")
        said = self._said(str(told.get("message") or ""))[:300]  # cut last: half a key is a key, too
        if 300 <= status < 400:
            return ProviderRefusedRequest(
                f"`{name}` answers {status} and points to another address, which is not followed: the "
                "operator sets the address that answers itself."
            )
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
        if self._shorter(words, longest) or self._plainer(words, form):
            return _Dropped()
        return ProviderRefusedRequest(f"`{name}` answers {status}: {said or 'without a reason'}")

    def _shorter(self, words: str, longest: int) -> bool:
        """Keep to a length of answers that a refusal names, and remember it; return whether it names one."""
        named_at_all = any(limit in words for limit in ("max_tokens", "max_completion_tokens"))
        if not named_at_all or any(word in words for word in _NO_LIMIT):
            return False
        named = [limit for limit in map(int, _LIMITS.findall(words)) if _LEAST_LIMIT <= limit < longest]
        with self._learned.lock:
            if named:
                self._learned.longest_answer = min(max(named), self._learned.longest_answer or MOST_TOKENS)
        return bool(named)

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
                    if moment < learned.open_until:
                        raise ProviderUnavailable(
                            f"`{self.provider.name}` failed {learned.failures} times in a row; it is left "
                            f"alone for {COOLS_FOR:g} s."
                        )
                    if not learned.probing:
                        learned.probing = True  # one request finds out whether it is back
                        return
                    wait = PROBED_EVERY  # the others wait for what it finds
                else:
                    wait = learned.not_before - moment
                    if moment + wait > self._deadline:
                        raise self._beyond(wait)
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
                learned.not_before = max(learned.not_before, moment + min(wait, LONGEST_REST))

    def _no_longer_probing(self) -> None:
        with self._learned.lock:
            self._learned.probing = False

    def _answered(self) -> None:
        with self._learned.lock:
            self._learned.failures = 0
            self._learned.probing = False

    def _too_late(self, failure: _Passing, wait: float) -> ProviderError:
        return failure.error if failure.retry_after is None else self._beyond(wait)

    def _beyond(self, wait: float) -> ProviderError:
        return ProviderRateLimited(
            f"`{self.provider.name}` asks to wait {wait:.0f} s, which is beyond the job's deadline."
        )


def _count(value: Any) -> int | None:
    """Return a count of tokens; None where a provider says nothing that could be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MOST_TOKENS else None


def _text_of(content: Any) -> str:
    """Return a message's text: a string, parts that each hold one, or the object that it should spell."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return json.dumps(content, ensure_ascii=False) if isinstance(content, dict) else ""


def _was_sent(cause: BaseException | None) -> bool:
    """Whether there was no answer after the request had gone out, so that it may be charged for."""
    import httpx2

    return isinstance(
        cause,
        httpx2.ReadError
        | httpx2.ReadTimeout
        | httpx2.WriteTimeout
        | httpx2.RemoteProtocolError
        | httpx2.DecodingError,
    )


class _Passing(Exception):
    """A failure that may pass."""

    def __init__(
        self, error: ProviderError, retry_after: float | None = None, wasted: Wasted | None = None
    ) -> None:
        super().__init__(error.detail)
        self.error, self.retry_after, self.wasted = error, retry_after, wasted


class _Dropped(Exception):
    """The provider refused a parameter, which will not be sent again."""
