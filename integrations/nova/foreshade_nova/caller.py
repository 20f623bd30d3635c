"""Calls of Foreshade's JSON gateway that end by a deadline, whatever the other side does."""

import http.client
import io
import json
import socket
import time
import urllib.parse

# Longest answer that is read. A thousand hosts with their reasons fit ten times.
ANSWER_BYTES_MAX = 8 * 1024 * 1024
_UNIX = 'unix:'


class Unanswered(Exception):
    """There is no usable answer; the text says why."""


class Refused(Unanswered):
    """The service answers, and does not take this request: the next one may be taken."""


class Caller:
    """POSTs one JSON document to one method and reads one back, on a connection of its own.

    `http.client` and `socket` are what eventlet makes cooperative: while this waits, the scheduler goes on. A synchronous gRPC
    call would hold all of it.

    :param url: `unix:/path/of/socket` or `http://127.0.0.1:port`
    :param deadline_s: from the connect to the last byte of the answer, seconds
    """

    def __init__(self, url, deadline_s, clock=time.monotonic):
        self._place = _place_of(url)
        self._deadline_s = deadline_s
        self._clock = clock

    def call(self, method, body):
        """:param method: `PlacementService/RankHosts`
        :raises Unanswered: also its subclass Refused
        """
        deadline = _Deadline(self._clock() + self._deadline_s, self._clock)
        try:
            status, text = self._exchange('/foreshade.v1.' + method, json.dumps(body), deadline)
        except socket.timeout:
            raise Unanswered(f'it did not answer within {self._deadline_s * 1000:.0f} ms') from None
        except (OSError, http.client.HTTPException, ValueError) as cause:
            raise Unanswered(f'{type(cause).__name__}: {cause}') from cause
        return _document_of(status, text)

    def _exchange(self, path, body, deadline):
        plain = self._connect(deadline)
        try:
            connection = http.client.HTTPConnection('localhost')
            connection.sock = _DeadlineSocket(plain, deadline)
            headers = {'Content-Type': 'application/json', 'Connection': 'close'}
            connection.request('POST', path, body.encode(), headers)
            response = connection.getresponse()
            text = response.read(ANSWER_BYTES_MAX + 1)
        finally:
            plain.close()
        if len(text) > ANSWER_BYTES_MAX:
            raise ValueError(f'its answer is longer than {ANSWER_BYTES_MAX} bytes')
        return response.status, text

    def _connect(self, deadline):
        family, address = self._place
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(deadline.remaining_s())
            plain.connect(address)
        except BaseException:
            plain.close()
            raise
        return plain


class _Deadline:
    def __init__(self, at, clock):
        self._at = at
        self._clock = clock

    def remaining_s(self):
        """:raises socket.timeout: when nothing remains"""
        remaining = self._at - self._clock()
        if remaining <= 0:
            raise socket.timeout
        return remaining


class _DeadlineSocket:
    """What `http.client` needs of a socket. A time-out of the socket itself begins anew with each byte that drips in."""

    def __init__(self, plain, deadline):
        self._plain = plain
        self._deadline = deadline

    def sendall(self, data):
        view = memoryview(data)
        while view:
            self._plain.settimeout(self._deadline.remaining_s())
            view = view[self._plain.send(view):]

    def makefile(self, *_):
        return io.BufferedReader(_DeadlineReader(self._plain, self._deadline))

    def close(self):
        """The response is read after this; the plain socket is closed by who opened it."""


class _DeadlineReader(io.RawIOBase):
    def __init__(self, plain, deadline):
        self._plain = plain
        self._deadline = deadline

    def readable(self):
        return True

    def readinto(self, buffer):
        self._plain.settimeout(self._deadline.remaining_s())
        return self._plain.recv_into(buffer)


def _place_of(url):
    if url.startswith(_UNIX):
        return socket.AF_UNIX, url[len(_UNIX):]
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != 'http' or not parts.hostname or not parts.port:
        raise ValueError(f'{url!r} must be unix:/path or http://127.0.0.1:port')
    return socket.AF_INET, (parts.hostname, parts.port)


def _document_of(status, text):
    try:
        document = json.loads(text)
    except ValueError:
        raise Unanswered(f'it answered {status} with what is no JSON') from None
    if not isinstance(document, dict):
        raise Unanswered(f'it answered {status} with what is no document')
    if status == 200:
        return document
    why = f'it answered {status}: {document.get("message", "no message")}'
    raise Refused(why) if 400 <= status < 429 else Unanswered(why)
