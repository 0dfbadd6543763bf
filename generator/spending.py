"""Counts the tokens of completions for their tenants, and refuses who has none left (mesh.access.quotas).

Tokens count as they come: a completion that fails or is left counts with what it had said. A tenant that has some left may
begin a completion, however long, and waits the longer afterwards.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from generator.requests import CompletionEvent, Delta, Finish, Started
from mesh.access import identity
from mesh.access.quotas import Quotas


async def spending(events: AsyncGenerator[CompletionEvent], quotas: Quotas) -> AsyncGenerator[CompletionEvent]:
    """The same events, at the cost of the current call's tenant. RateLimited before the first where it has used its share."""
    caller = identity.current.get()
    prompt = completion = 0
    async with aclosing(events):
        quotas.admit_tokens(caller)
        async for event in events:
            if isinstance(event, Started):
                quotas.spend_tokens(caller, "prompt", event.prompt_tokens - prompt)
                prompt = max(prompt, event.prompt_tokens)
            elif isinstance(event, Delta):
                quotas.spend_tokens(caller, "completion", event.tokens)
                completion += event.tokens
            elif isinstance(event, Finish):
                quotas.spend_tokens(caller, "prompt", event.usage.prompt - prompt)
                quotas.spend_tokens(caller, "completion", event.usage.completion - completion)
            yield event
