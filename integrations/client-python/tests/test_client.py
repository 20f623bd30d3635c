"""Goal: a lease is in place while its work runs, renewed for as long, and given back with how the work went.

Method: the client against the real service over a hypervisor in memory, in a process that a test kills and starts again.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import grpc

from foreshade import client as foreshade
from foreshade.v1 import admin_pb2
from foreshade.v1 import allocation_pb2
from foreshade.v1 import resources_pb2

# The shortest time to live: a renewal each 667 ms.
SHORT = {'ttl_ms': 2000}
START_S = 60


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='fs-client-')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.process = None
        self.serve()
        self.addCleanup(self.kill)
        self.client = foreshade.Client(os.path.join(self.folder, 'foreshade.sock'))
        self.addCleanup(self.client.close)

    def serve(self):
        self.process = subprocess.Popen(
            [os.environ['FORESHADE_NODE'], os.environ['FORESHADE_FAKE_SERVICE'], self.folder], stdout=subprocess.PIPE)
        self.addCleanup(self.process.stdout.close)
        self.assertEqual(b'serving\n', self.process.stdout.readline())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stored(self, lease):
        return self.client.allocation.GetLease(allocation_pb2.GetLeaseRequest(lease_id=lease.id))

    def test_allocates_renews_and_releases(self):
        with self.client.lease('alpha', 'encode', {'input_mib': 64, 'mode': 'fast'}, tenant='acme', **SHORT) as held:
            self.assertEqual(allocation_pb2.LEASE_STATE_ACTIVE, held.lease.state)
            self.assertGreater(held.lease.granted.memory_bytes, 0)
            first = held.lease.expires_at_ms
            time.sleep(3)
            kept = self.stored(held.lease)
            self.assertEqual(allocation_pb2.LEASE_STATE_ACTIVE, kept.state, 'kept beyond its time to live')
            self.assertGreater(kept.expires_at_ms, first)
            self.assertFalse(held.lost.is_set())
            need = resources_pb2.ResourceProfile(cpu_millicores=3500)
            self.assertGreaterEqual(held.renew(need).granted.cpu_millicores, 3500)
        self.assertEqual(allocation_pb2.LEASE_STATE_RELEASED, held.lease.state)
        stored = self.stored(held.lease)
        self.assertEqual(('acme', 64.0, 'fast'), (
            stored.tenant, stored.params['input_mib'].number, stored.params['mode'].category))
        self.assertGreaterEqual(stored.work_finished_at_ms - stored.work_started_at_ms, 2900)

    def test_work_that_raises_gives_its_lease_back(self):
        with self.assertRaises(ZeroDivisionError), self.client.lease('alpha', 'encode') as held:
            1 / 0
        self.assertEqual(allocation_pb2.LEASE_STATE_RELEASED, self.stored(held.lease).state)

    def test_a_restart_of_the_service_is_outlived(self):
        with self.client.lease('alpha', 'encode', ttl_ms=4000) as held:
            self.kill()
            self.serve()
            deadline = time.monotonic() + START_S
            before = held.lease.expires_at_ms
            while held.lease.expires_at_ms == before and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertFalse(held.lost.is_set())
        self.assertEqual(allocation_pb2.LEASE_STATE_RELEASED, held.lease.state)

    def test_a_lease_that_ends_without_us_is_lost(self):
        with self.client.lease('alpha', 'encode', **SHORT) as held:
            self.client.allocation.ReleaseLease(allocation_pb2.ReleaseLeaseRequest(lease_id=held.lease.id))
            self.assertTrue(held.lost.wait(10))
        with self.client.lease('alpha', 'encode', **SHORT) as held:
            self.kill()
            self.assertTrue(held.lost.wait(20), 'no service for as long as it lives')

    def test_refusals_are_grpcs_own(self):
        with self.assertRaises(grpc.RpcError) as caught, self.client.lease('nobody', 'encode'):
            self.fail('there is no such guest')
        self.assertEqual(grpc.StatusCode.NOT_FOUND, caught.exception.code())

    def test_the_other_faces(self):
        self.assertEqual(1, self.client.admin.GetStatus(admin_pb2.GetStatusRequest()).guests)


if __name__ == '__main__':
    unittest.main()
