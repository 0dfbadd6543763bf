"""Reddit through its API, by PRAW: the newest or best submissions of subreddits.

PRAW keeps Reddit's rate limit by the headers of its answers. The API hands out at most about 1,000 submissions of a listing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.errors import FailedPrecondition, NotFound, Unauthenticated, Unavailable
from training.collect.collectors import Found, Position
from training.collect.polite import user_agent
from training.collect.reddit import PostFilter, options, to_record

LISTINGS = ("new", "top", "hot")
_FIELDS = (
    "id", "title", "selftext", "score", "subreddit", "permalink", "created_utc", "over_18", "stickied",
    "removed_by_category", "author",
)  # fmt: skip
_RECORD_BYTES = 4_000


@dataclass(frozen=True)
class Credentials:
    """Of an application at Reddit; read-only access needs no user."""

    client_id: str
    client_secret: str


@dataclass(frozen=True)
class Addresses:
    """Where Reddit is."""

    reddit: str = "https://www.reddit.com"
    oauth: str = "https://oauth.reddit.com"


class RedditListing:
    """Listings of subreddits as a collector."""

    name = "reddit-api"

    def __init__(
        self, subreddits: Sequence[str], listing: str, wanted: PostFilter, licence: str, credentials: Credentials | None,
        addresses: Addresses | None = None,
    ) -> None:  # fmt: skip
        self._subreddits, self._listing, self._wanted = tuple(subreddits), listing, wanted
        self._licence, self._credentials, self._addresses = licence, credentials, addresses or Addresses()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "listing": self._listing, "names": list(self._subreddits), "licence": self._licence, **options(self._wanted)
        }  # fmt: skip

    @property
    def total(self) -> int | None:
        return None

    def check(self) -> int:
        """FailedPrecondition without credentials."""
        if self._credentials is None:
            raise FailedPrecondition(
                "Reddit's API needs an application's id and secret: set MURPHEY_REDDIT_CLIENT_ID and "
                "MURPHEY_REDDIT_CLIENT_SECRET. Make one at reddit.com/prefs/apps, of the kind script."
            )
        return _RECORD_BYTES * 1_000 * len(self._subreddits)

    def find(self, after: Position) -> Iterator[Found]:
        from prawcore import exceptions

        first, _, last = after.partition(":") if isinstance(after, str) else ("0", "", "")
        try:
            for number in range(int(first), len(self._subreddits)):
                yield from self._of(number, last if number == int(first) else "")
        except (exceptions.Redirect, exceptions.NotFound) as error:
            raise NotFound("Reddit knows no such subreddit.") from error
        except (exceptions.OAuthException, exceptions.Forbidden) as error:
            raise Unauthenticated(f"Reddit does not let this application read: {error}") from error
        except exceptions.ResponseException as error:
            if error.response.status_code == 401:
                raise Unauthenticated("Reddit does not accept the application's id and secret.") from error
            raise Unavailable(
                f"Reddit answers {error.response.status_code}. What was found is kept; try later."
            ) from error
        except exceptions.RequestException as error:
            raise Unavailable(f"Reddit cannot be reached: {error.original_exception}") from error

    def _of(self, number: int, last: str) -> Iterator[Found]:
        subreddit = self._reddit().subreddit(self._subreddits[number])
        params = {"after": f"t3_{last}"} if last else {}
        done = 0
        for submission in getattr(subreddit, self._listing)(limit=None, params=params):
            done += 1
            yield self._found(submission, f"{number}:{submission.id}", done)
        yield Found(f"{number + 1}:", done=done)

    def _found(self, submission: Any, position: str, done: int) -> Found:
        post = {name: getattr(submission, name, None) for name in _FIELDS}
        post = {
            name: str(value) if name in ("author", "subreddit") and value else value for name, value in post.items()
        }
        record = to_record(post, self._licence)
        dropped = self._wanted.dropped(post, record.text)
        return Found(position, None if dropped else record, dropped, done)

    def _reddit(self) -> Any:
        import praw

        assert self._credentials is not None  # noqa: S101 - check() has seen to it
        return praw.Reddit(
            client_id=self._credentials.client_id, client_secret=self._credentials.client_secret, user_agent=user_agent(),
            reddit_url=self._addresses.reddit, oauth_url=self._addresses.oauth, check_for_updates=False,
        )  # fmt: skip
