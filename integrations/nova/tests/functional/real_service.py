"""The real Foreshade service over a hypervisor in memory, in a process of its own that a test may stop or kill."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from foreshade_nova import caller

GIB = 1 << 30
# It takes about a second; the rest is for a busy machine.
SERVICE_START_S = 60


class Service:
    """The real service, on a folder of its own. What it runs is told by the environment."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='fs-nova-')
        self.socket = os.path.join(self.folder, 'foreshade.http.sock')
        self.url = 'unix:' + self.socket
        self._process = subprocess.Popen(
            [os.environ['FORESHADE_NODE'], os.environ['FORESHADE_FAKE_SERVICE'], self.folder], stdout=subprocess.DEVNULL)
        self._caller = caller.Caller(self.url, 10.0)
        begun = time.monotonic()
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() - begun > SERVICE_START_S:
                self.close()
                raise RuntimeError('the service does not start')
            time.sleep(0.05)

    def _is_up(self):
        try:
            return bool(self._caller.call('PlacementService/ListHosts', {}))
        except caller.Unanswered:
            return False

    def call(self, method, body):
        return self._caller.call(method, body)

    def report(self, host, share, **changes):
        """A host of 10 cores and 8 GiB of which guests always use such a share."""
        def always(mean):
            return {'mean': mean, 'size': mean}

        room = {'cpu_millicores': 10_000, 'memory_bytes': str(8 * GIB)}
        used = {'cpu_millicores': 10_000 * share, 'memory_bytes': str(int(8 * GIB * share))}
        self.call('PlacementService/ReportHost', {'report': {
            'host': host, 'physical': room, 'capacity': room, 'committed': used,
            'cpu': always(10_000 * share), 'memory': always(8 * GIB * share), **changes,
        }})

    def decisions(self):
        """Calls of RankHosts that were begun."""
        name = r'foreshade_rpc_started_total\{method="foreshade\.v1\.PlacementService/RankHosts"\}'
        return int(re.search(rf'^{name} (\d+)', self._metrics(), re.MULTILINE).group(1))

    def _metrics(self):
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(self.socket)
        connection = http.client.HTTPConnection('localhost')
        connection.sock = plain
        connection.request('GET', '/metrics', headers={'Connection': 'close'})
        return connection.getresponse().read().decode()

    def signal(self, number):
        self._process.send_signal(number)

    def close(self):
        for number in (signal.SIGCONT, signal.SIGKILL):
            self._process.send_signal(number)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
