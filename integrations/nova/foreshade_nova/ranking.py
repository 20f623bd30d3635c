"""Foreshade's answer about one decision's hosts."""

import math
import statistics

# Hosts of one call, as the contract has it; Placement gives Nova no more either, unless told to.
HOSTS_MAX = 1000
_VETO = 'HOST_VERDICT_VETO'


class Ranking:
    """Scores and vetoes by host. Of a host that is not in it nothing is known: it passes, with the median score."""

    def __init__(self, document):
        """:param document: RankHostsResponse as JSON; fields at their default are left out of it
        :raises ValueError: when it is not one
        """
        rows = document.get('hosts', [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError('hosts must be a list of documents')
        self._rows = {row.get('host'): row for row in rows}
        scores = [score for score in map(_score_of, rows) if score is not None]
        self._median = statistics.median_low(scores) if scores else 0.0

    def veto(self, host):
        """Why the guest is not to go there, in words; None: it may."""
        row = self._rows.get(host, {})
        return reasons_of(row) if row.get('verdict') == _VETO else None

    def score(self, host):
        """In [0, 1], always a number: one that is not corrupts the order of all hosts without a word."""
        row = self._rows.get(host)
        score = None if row is None else _score_of(row)
        return self._median if score is None else score

    def why(self, host):
        return reasons_of(self._rows.get(host, {}))


def reasons_of(row):
    reasons = row.get('reasons', [])
    return '; '.join(map(str, reasons)) if isinstance(reasons, list) and reasons else 'no reason given'


def _score_of(row):
    score = row.get('score', 0.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        return None
    return min(1.0, max(0.0, float(score)))


def question(hosts, sizes, tenant, tenant_guests, fields, goal):
    """RankHostsRequest as JSON.

    :param hosts: how many guests each has, by name
    :param sizes: (vcpus, memory in MiB) of the flavor: what the guest may use at most
    :param fields: of `production_input.of_request`
    """
    vcpus, memory_mib = sizes
    names = list(hosts)[:HOSTS_MAX]
    return {
        'hosts': names,
        'guests': {name: hosts[name] for name in names},
        'tenant': tenant,
        'tenant_guests': tenant_guests,
        'ceiling': {'cpu_millicores': vcpus * 1000, 'memory_bytes': str(memory_mib << 20)},
        'goal': 'PLACEMENT_GOAL_' + goal.upper(),
        **fields,
    }
