"""Foreshade's contract as Python calls, and a lease that is kept while its work runs.

    with Client() as client, client.lease('web-1', 'encode', {'input_mib': 64}) as held:
        ...  # the work, with held.lease.granted in place

Everything else of the contract is there as generated: `client.admin.GetStatus(admin_pb2.GetStatusRequest())`.
"""

import json
import threading
import time
import uuid

import grpc

from foreshade.v1 import admin_pb2_grpc
from foreshade.v1 import allocation_pb2
from foreshade.v1 import allocation_pb2_grpc
from foreshade.v1 import placement_pb2_grpc
from foreshade.v1 import resources_pb2
from foreshade.v1 import shadow_pb2_grpc

SOCKET = '/run/foreshade/foreshade.sock'
# Longest wait for an answer unless a call says otherwise: several actuations of a slow guest.
TIMEOUT_S = 30.0
# After UNAVAILABLE, and nothing else (AIP-194). A record of samples is not repeated: part of it may have been taken.
_SERVICE_CONFIG = {
    'methodConfig': [
        {'name': [{'service': 'foreshade.v1.ShadowService', 'method': 'Record'}]},
        {
            'name': [{}],
            'retryPolicy': {
                'maxAttempts': 5,
                'initialBackoff': '0.1s',
                'maxBackoff': '2s',
                'backoffMultiplier': 2,
                'retryableStatusCodes': ['UNAVAILABLE'],
            },
        },
    ],
}
# Renewals in one time to live: two may fail before the lease is at risk.
_RENEWALS_PER_TTL = 3
# Longest pause after a renewal that failed, and its share of a short time to live.
_RETRY_S_MAX = 1.0
_RETRY_TTL_FRACTION = 0.1
_WAITING = frozenset({
    allocation_pb2.LEASE_STATE_QUEUED,
    allocation_pb2.LEASE_STATE_SCHEDULED,
    allocation_pb2.LEASE_STATE_PREPARING,
})
_IN_PLACE = frozenset({allocation_pb2.LEASE_STATE_ACTIVE, allocation_pb2.LEASE_STATE_DEGRADED})
# What a call of ours fails with when the service knows that the lease is no more.
_ENDED = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION})


class LeaseLost(Exception):
    """The lease has ended before it was given back."""


class Client:
    """The service's faces over one connection.

    :param address: path of the unix socket, or `host:port`
    """

    def __init__(self, address=SOCKET):
        target = f'unix:{address}' if address.startswith('/') else address
        self._channel = grpc.insecure_channel(target, options=[
            ('grpc.service_config', json.dumps(_SERVICE_CONFIG)),
            # Of a unix socket it would be its path, which is no name of a host.
            ('grpc.default_authority', 'localhost'),
            # A service on this host that restarts is found again within this.
            ('grpc.max_reconnect_backoff_ms', 2000),
        ])
        self.allocation = allocation_pb2_grpc.AllocationServiceStub(self._channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self.placement = placement_pb2_grpc.PlacementServiceStub(self._channel)
        self.shadow = shadow_pb2_grpc.ShadowServiceStub(self._channel)

    def lease(self, guest, workload, params=None, **fields):
        """A lease to be held by `with`: allocated at its beginning, given back at its end.

        :param params: numbers, texts (which count as one of few values) and ParamValue, by name
        :param fields: others of AllocateRequest: tenant, priority, ttl_ms ...
        """
        # With an id of its own a request may be repeated: it gives the same lease.
        fields.setdefault('request_id', str(uuid.uuid4()))
        params = {name: _param(value) for name, value in (params or {}).items()}
        return HeldLease(self, allocation_pb2.AllocateRequest(guest=guest, workload=workload, params=params, **fields))

    def close(self):
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class HeldLease:
    """A lease that is in place, and renewed until it is given back, by a thread of its own.

    `lease` is what the service last told of it, `lost` an event that is set when it ended without us.
    """

    def __init__(self, client, request):
        self._allocation = client.allocation
        self._request = request
        self._ending = threading.Event()
        self._keeper = None
        self._begun_at_ms = None
        self._expires_at = None
        self.lease = None
        self.lost = threading.Event()

    def __enter__(self):
        """:raises grpc.RpcError: when there is no lease to be had
        :raises LeaseLost: when it ended before it was in place
        """
        begun = time.monotonic()
        self._take(self._allocation.Allocate(self._request, timeout=TIMEOUT_S), begun)
        self._keeper = threading.Thread(target=self._keep, name='foreshade-lease', daemon=True)
        self._keeper.start()
        try:
            self._await_place()
        except BaseException:
            self._release(work_failed=True)
            raise
        self._begun_at_ms = int(time.time() * 1000)
        return self

    def __exit__(self, kind, error, trace):
        """An exception of the work says that it failed, and goes on."""
        self._release(
            work_started_at_ms=self._begun_at_ms,
            work_finished_at_ms=max(self._begun_at_ms, int(time.time() * 1000)),
            work_failed=kind is not None,
        )

    def renew(self, need=None):
        """Move the expiry now, and enlarge the lease where its work turned out to need more.

        :param need: ResourceProfile of CPU and memory in all
        """
        self._renew(TIMEOUT_S, need)
        return self.lease

    def _renew(self, timeout_s, need=None):
        begun = time.monotonic()
        request = allocation_pb2.RenewLeaseRequest(lease_id=self.lease.id, need=need)
        self._take(self._allocation.RenewLease(request, timeout=timeout_s, wait_for_ready=True), begun)

    def _take(self, lease, begun):
        self.lease = lease
        self._expires_at = begun + lease.ttl_ms / 1000

    def _await_place(self):
        watch = allocation_pb2.WatchLeaseRequest(lease_id=self.lease.id)
        while self.lease.state in _WAITING and not self.lost.is_set():
            try:
                for lease in self._allocation.WatchLease(watch):
                    self.lease = lease
                    if lease.state not in _WAITING or self.lost.is_set():
                        break
            except grpc.RpcError as error:
                if error.code() in _ENDED:
                    raise
                self._ending.wait(self._retry_s())
        if self.lost.is_set() or self.lease.state not in _IN_PLACE:
            raise LeaseLost(f'lease {self.lease.id} has ended: {self.lease.reason}')

    def _keep(self):
        pause_s = self.lease.ttl_ms / 1000 / _RENEWALS_PER_TTL
        while not self._ending.wait(pause_s):
            try:
                self._renew(max(self._expires_at - time.monotonic(), self._retry_s()))
                pause_s = self.lease.ttl_ms / 1000 / _RENEWALS_PER_TTL
            except grpc.RpcError as error:
                if error.code() in _ENDED or time.monotonic() > self._expires_at:
                    self.lost.set()
                    return
                pause_s = self._retry_s()

    def _retry_s(self):
        return min(_RETRY_S_MAX, self.lease.ttl_ms / 1000 * _RETRY_TTL_FRACTION)

    def _release(self, **report):
        self._ending.set()
        self._keeper.join()
        if self.lost.is_set():
            return
        request = allocation_pb2.ReleaseLeaseRequest(lease_id=self.lease.id, **report)
        self.lease = self._allocation.ReleaseLease(request, timeout=TIMEOUT_S)


def _param(value):
    if isinstance(value, resources_pb2.ParamValue):
        return value
    if isinstance(value, str):
        return resources_pb2.ParamValue(category=value)
    if isinstance(value, bool):
        return resources_pb2.ParamValue(category=str(value).lower())
    return resources_pb2.ParamValue(number=value)
