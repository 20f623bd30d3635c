"""A server that answers as a test tells it to, and stand-ins for what Nova hands to a filter."""

import json
import os
import socket
import tempfile
import threading
import time


class Server:
    """Listens on a unix socket; `behaviour(connection, request)` answers one connection, in a thread of its own."""

    def __init__(self, behaviour):
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, 'http.sock')
        self.requests = []
        self._behaviour = behaviour
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self):
        return 'unix:' + self.path

    def close(self):
        self._listener.close()
        os.unlink(self.path)
        os.rmdir(self.folder)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with connection:
            head, _, body = self._read(connection)
            self.requests.append((head, body))
            try:
                self._behaviour(connection, json.loads(body))
            except OSError:
                pass  # the caller has gone, as it may

    def _read(self, connection):
        data = b''
        while b'\r\n\r\n' not in data:
            data += connection.recv(65536)
        head, separator, body = data.partition(b'\r\n\r\n')
        length = int([line for line in head.split(b'\r\n') if line.lower().startswith(b'content-length')][0].split(b':')[1])
        while len(body) < length:
            body += connection.recv(65536)
        return head.decode(), separator, body


def answer(connection, document, status=200):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    connection.sendall(b'HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n' % (status, len(body)) + body)


def hang(connection, _request):
    time.sleep(5)


def drip(connection, _request):
    """A byte at a time, each well within any time-out of the socket."""
    for byte in b'HTTP/1.1 200 OK\r\n' + b'X-Slow: 1\r\n' * 100:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


class Versioned:
    """What of Nova's objects is used: fields, and whether they are set."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def __contains__(self, name):
        return name in self.__dict__


class HostState:
    def __init__(self, name, instances=()):
        self.nodename = name
        self.host = 'compute-' + name
        self.num_instances = len(instances)
        self.instances = {uuid: Versioned(project_id=project) for uuid, project in instances}


def spec_of(uuid='i-1', hints=None, extra_specs=None):
    flavor = Versioned(vcpus=2, memory_mb=2048, extra_specs=extra_specs or {})
    return Versioned(flavor=flavor, project_id='acme', instance_uuid=uuid, scheduler_hints=hints)


class Options:
    def __init__(self, url, **changes):
        self.url = url
        self.deadline_ms = 230
        self.breaker_s = 5.0
        self.veto = True
        self.weight_multiplier = 100.0
        self.host_key = 'nodename'
        self.goal = 'spread'
        self.__dict__.update(changes)
