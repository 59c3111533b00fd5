"""The configured language models as generators see them: settings in, `Providers` out."""

from __future__ import annotations

from app.config import Settings
from app.generators.llm.providers import Provider, Providers


def providers_of(settings: Settings) -> Providers:
    """Return the providers of the settings; names are lower case, whatever the variables' case was."""
    found = {
        name.lower(): Provider(
            name=name.lower(),
            base_url=given.base_url,
            model=given.model,
            api_key=given.api_key.get_secret_value(),
            mode=given.mode,
            prompt_price=given.prompt_price,
            completion_price=given.completion_price,
            timeout=given.timeout,
            deadline=given.deadline,
            concurrency=given.concurrency,
        )
        for name, given in settings.llm.items()
    }
    return Providers(found, settings.offline)
