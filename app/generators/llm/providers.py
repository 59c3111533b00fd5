"""Which language models there are to ask: frozen, named by the operator, handed in by whoever runs a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.errors import OutgoingCallsOff, ProviderNotConfigured

Mode = Literal["auto", "json_schema", "json_object", "json_object_schema", "text"]
"""How a model is held to JSON. `json_object_schema` is llama.cpp's way: `json_object`, a schema beside it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenAI-compatible endpoint and the model to ask there.

    Parameters
    ----------
    name : str
        What jobs call it by.
    base_url : str
        Up to and with `/v1`; for Azure OpenAI the resource's `/openai/v1/`.
    api_key : str
        Empty where the server asks for none.
    model : str
        As the server calls it.
    mode : str
        `auto` tries `json_schema`, then `json_object`, then plain text, and remembers what was accepted.
    prompt_price, completion_price : float or None
        US dollars for a million tokens; None where not known.
    timeout, deadline : float
        Seconds for one request, and for all requests of a job.
    concurrency : int
        Requests of a job that are under way at once.
    """

    name: str
    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    mode: Mode = "auto"
    prompt_price: float | None = None
    completion_price: float | None = None
    timeout: float = 120.0
    deadline: float = 1800.0
    concurrency: int = 4

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return what so many tokens cost, in US dollars; None where no price is known."""
        if self.prompt_price is None and self.completion_price is None:
            return None
        million = (self.prompt_price or 0.0) * prompt_tokens + (
            self.completion_price or 0.0
        ) * completion_tokens
        return million / 1e6


@dataclass(frozen=True, slots=True)
class Providers:
    """The configured providers by name, and whether any may be called."""

    by_name: Mapping[str, Provider] = field(default_factory=dict)
    offline: bool = False

    def choose(self, name: str | None) -> Provider:
        """Return a provider by its name, or the only one where none is named.

        Raises
        ------
        OutgoingCallsOff, ProviderNotConfigured
            With what the operator, or the caller, can do.
        """
        if self.offline:
            raise OutgoingCallsOff(
                "The operator has switched outgoing calls off (SYNTHWARD_OFFLINE): no language model is "
                "asked. Choose another generator, such as `blueprint`."
            )
        known = ", ".join(sorted(self.by_name))
        if not self.by_name:
            wanted = (name or "NAME").upper()
            raise ProviderNotConfigured(
                "No language model is configured. The operator sets "
                f"SYNTHWARD_LLM__{wanted}__BASE_URL, SYNTHWARD_LLM__{wanted}__MODEL and, where the server "
                f"wants one, SYNTHWARD_LLM__{wanted}__API_KEY."
            )
        if name is None:
            if len(self.by_name) > 1:
                raise ProviderNotConfigured(f"Several providers are configured; choose one of {known}.")
            return next(iter(self.by_name.values()))
        found = self.by_name.get(name.lower())
        if found is None:
            raise ProviderNotConfigured(f"There is no provider `{name}`. Configured are: {known}.")
        return found
