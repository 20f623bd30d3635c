"""Scoring engines for Watcher's strategies: what Foreshade foresees of hosts. See docs/nova.md."""

import json

from oslo_config import cfg
from watcher.decision_engine.scoring import base

from foreshade_nova import caller

_GROUP = 'foreshade'
_OPTIONS = [
    cfg.StrOpt('url', default='unix:/run/foreshade/foreshade.http.sock',
               help='Where Foreshade serves JSON over HTTP: unix:/path of its socket, or http://127.0.0.1:port.'),
    # An audit waits where a boot does not.
    cfg.IntOpt('deadline_ms', default=5_000, min=1, max=60_000, help='Longest wait for an answer.'),
]


class ForeshadeContainer(base.ScoringEngineContainer):
    """Watcher asks the class and gives it no configuration: the options are read from the process's own."""

    @classmethod
    def get_scoring_engine_list(cls):
        cfg.CONF.register_opts(_OPTIONS, group=_GROUP)
        options = cfg.CONF[_GROUP]
        asks = caller.Caller(options.url, options.deadline_ms / 1000.0)
        return [
            ServiceCall(
                asks,
                'PlacementService/RankHosts',
                'foreshade_rank_hosts',
                'Ranks hosts for one guest by what their guests and it may come to use together',
                'RankHostsRequest, such as {"ceiling": {"cpu_millicores": 4000, "memory_bytes": "8589934592"}}',
                'RankHostsResponse: hosts, best first, each with verdict, score in [0, 1] and reasons',
            ),
            ServiceCall(
                asks,
                'PlacementService/ListHosts',
                'foreshade_hosts',
                'What hosts have, what they promised, and what their guests use, by hour of the day too',
                'ListHostsRequest: {}',
                'ListHostsResponse: hosts by name, each with its last report',
            ),
        ]


class ServiceCall(base.ScoringEngine):
    """One method of the service: features are its request and the score is its answer, both proto JSON."""

    def __init__(self, asks, method, name, description, takes, gives):
        super().__init__(config=None)
        self._caller = asks
        self._method = method
        self._name = name
        self._description = description
        self._metainfo = json.dumps({'method': 'foreshade.v1.' + method, 'features': takes, 'score': gives})

    def get_name(self):
        return self._name

    def get_description(self):
        return self._description

    def get_metainfo(self):
        return self._metainfo

    def calculate_score(self, features):
        """:raises ValueError: when the features are no JSON document
        :raises caller.Unanswered: when the service does not answer: the strategy is to go on as without this engine
        """
        request = json.loads(features)
        if not isinstance(request, dict):
            raise ValueError('the features must be a JSON document')
        return json.dumps(self._caller.call(self._method, request))
