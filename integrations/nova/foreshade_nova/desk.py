"""Where the filter and the weigher of one scheduler meet: one call for each decision, made by whoever comes first."""

import collections
import logging
import threading
import time

from foreshade_nova import breaker
from foreshade_nova import caller
from foreshade_nova import production_input
from foreshade_nova import ranking

LOG = logging.getLogger(__name__)

# An answer that the weigher did not fetch, since one host was left, goes after so long: a decision takes far less.
KEPT_S = 10.0
# Answers kept at once: more decisions than a scheduler has under way.
KEPT_MAX = 256


class Desk:
    """Asks Foreshade about the hosts of one decision, and never raises: without an answer hosts are to be treated alike.

    :param options: the [foreshade] section
    """

    def __init__(self, options, clock=time.monotonic):
        self._options = options
        self._caller = caller.Caller(options.url, options.deadline_ms / 1000.0, clock)
        self._breaker = breaker.Breaker(options.breaker_s, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept = collections.OrderedDict()

    def name_of(self, host_state):
        """The host as its agent reports it."""
        return getattr(host_state, self._options.host_key)

    def ask(self, host_states, spec):
        """Ask about a decision anew, and keep the answer for `answer`. None: there is none."""
        found = self._ask(host_states, spec)
        with self._lock:
            self._kept.pop(_key_of(spec), None)
            self._kept[_key_of(spec)] = (self._clock(), found)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return found

    def answer(self, host_states, spec):
        """The answer that was kept for the decision, once; asked for where nobody has."""
        with self._lock:
            asked_at, found = self._kept.pop(_key_of(spec), (None, None))
        if asked_at is not None and self._clock() - asked_at <= KEPT_S:
            return found
        return self._ask(host_states, spec)

    def _ask(self, host_states, spec):
        if not host_states or not self._breaker.allows():
            return None
        try:
            found = ranking.Ranking(self._caller.call('PlacementService/RankHosts', self._question(host_states, spec)))
        except caller.Refused as cause:
            # It answers: what is wrong is this request, and others need not go without.
            self._breaker.succeeded()
            LOG.warning('Foreshade does not rank hosts for instance %s, which pass and weigh alike: %s',
                        _key_of(spec), cause)
        except Exception as cause:
            # Whatever it is, a boot must not fail for it.
            self._breaker.failed()
            LOG.warning('Foreshade is not asked for %s s, hosts pass and weigh alike: %s', self._options.breaker_s, cause)
        else:
            self._breaker.succeeded()
            return found
        return None

    def _question(self, host_states, spec):
        flavor = spec.flavor
        tenant = spec.project_id or ''
        # Counted by Nova as soon as a host is chosen, long before its agent sees the guest: without it, guests that come
        # together would all go to the host that was best before them.
        guests = {self.name_of(state): max(0, state.num_instances) for state in host_states}
        return ranking.question(
            guests,
            (flavor.vcpus, flavor.memory_mb),
            tenant,
            self._tenant_guests(host_states, spec) if tenant else {},
            production_input.of_request(_field(flavor, 'extra_specs'), _field(spec, 'scheduler_hints')),
            self._options.goal,
        )

    def _tenant_guests(self, host_states, spec):
        """The project's instances by host, as far as the scheduler tracks them; the one that is placed does not count."""
        counts = collections.Counter()
        for state in host_states[:ranking.HOSTS_MAX]:
            for uuid, instance in (getattr(state, 'instances', None) or {}).items():
                if uuid != _field(spec, 'instance_uuid') and instance.project_id == spec.project_id:
                    counts[self.name_of(state)] += 1
        return dict(counts)


def _field(versioned, name):
    """A field of one of Nova's objects; None where it is not set, which reading it would raise for."""
    return getattr(versioned, name) if name in versioned else None


def _key_of(spec):
    return _field(spec, 'instance_uuid') or f'of request {id(spec)}'


_desk = None
_desk_lock = threading.Lock()


def of(options):
    """The one desk of this process."""
    global _desk
    with _desk_lock:
        if _desk is None:
            _desk = Desk(options)
        return _desk


def forget():
    """Let the next `of` make a desk anew, by its own options."""
    global _desk
    with _desk_lock:
        _desk = None
