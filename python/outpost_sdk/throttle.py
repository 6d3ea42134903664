"""The soft throttle of the classic client: 20 requests in any 10 seconds, 5 MB for each request and each answer.

A request that comes too early waits for its turn, in the order of coming; none is refused for its rate. A body above
the bound is refused before it is sent: waiting would not make it smaller.
"""

from __future__ import annotations

import threading
import time
import typing as t
from collections import deque

#: Requests in any period.
THROTTLE_REQUESTS = 20
#: The period in which requests are counted.
THROTTLE_PERIOD_S = 10.0
#: Largest body of a request or an answer.
THROTTLE_BODY_BYTES = 5_000_000


class ThrottlingException(Exception):
    """What the throttle refuses."""


class MaxRequestSizeExceeded(ThrottlingException):
    """A body is larger than a throttled client may send or receive."""

    def __init__(self, what: str, size: int) -> None:
        super().__init__(
            f"{what} has {size} bytes, more than the {THROTTLE_BODY_BYTES} that a throttled client may have in one. "
            "Submit or ask for fewer tasks at a time, pass large data by a file or URL, or set throttling_enabled = False."
        )


class Throttle:
    """Counts requests and holds up those that come too early; safe to use from several threads."""

    def __init__(
        self,
        *,
        now: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.enabled = True
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        # When the last requests were or will be sent, oldest first.
        self._turns: deque[float] = deque(maxlen=THROTTLE_REQUESTS)

    def wait(self) -> None:
        """Returns when one more request may be sent."""
        if not self.enabled:
            return
        with self._lock:
            now = self._now()
            is_full = len(self._turns) == THROTTLE_REQUESTS
            turn = max(now, self._turns[0] + THROTTLE_PERIOD_S) if is_full else now
            self._turns.append(turn)
        if turn > now:
            self._sleep(turn - now)

    def check_size(self, what: str, size: int) -> None:
        """Raises MaxRequestSizeExceeded when a body is too large."""
        if self.enabled and size > THROTTLE_BODY_BYTES:
            raise MaxRequestSizeExceeded(what, size)
