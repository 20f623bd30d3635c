"""A circuit breaker: what fails is left alone for a while."""

import threading
import time


class Breaker:
    """After a failure no call is made for `pause_s`; then one is tried, and while it is under way no other."""

    def __init__(self, pause_s, clock=time.monotonic):
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_again_at = None

    def allows(self):
        """Whether a call may be made now. Who is allowed says how it went."""
        with self._lock:
            if self._closed_again_at is None:
                return True
            now = self._clock()
            if now < self._closed_again_at:
                return False
            self._closed_again_at = now + self._pause_s
            return True

    def succeeded(self):
        with self._lock:
            self._closed_again_at = None

    def failed(self):
        with self._lock:
            self._closed_again_at = self._clock() + self._pause_s
