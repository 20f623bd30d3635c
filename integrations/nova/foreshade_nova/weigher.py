"""The scheduler's weigher: hosts by Foreshade's scores. See docs/nova.md."""

import logging

import nova.conf
from nova.scheduler import utils
from nova.scheduler import weights

from foreshade_nova import conf
from foreshade_nova import desk

LOG = logging.getLogger(__name__)


class ForeshadeWeigher(weights.BaseHostWeigher):
    """Reads the answer that the filter got; without the filter it asks itself."""

    # Scores lie in [0, 1] by themselves: stretched to it, the least difference would say as much as the largest.
    minval = 0.0
    maxval = 1.0

    def __init__(self):
        self._options = conf.register(nova.conf.CONF)

    def weight_multiplier(self, host_state):
        return utils.get_weight_multiplier(
            host_state, 'foreshade_weight_multiplier', self._options.weight_multiplier)

    def weigh_objects(self, weighed_obj_list, weight_properties):
        hosts = [weighed.obj for weighed in weighed_obj_list]
        asked = desk.of(self._options)
        ranking = asked.answer(hosts, weight_properties)
        if ranking is None:
            return [0.0] * len(hosts)
        scores = [ranking.score(asked.name_of(host)) for host in hosts]
        best = asked.name_of(hosts[scores.index(max(scores))])
        LOG.info('Foreshade ranks host %s first of %d for instance %s, at %.3f: %s',
                 best, len(hosts), weight_properties.instance_uuid, max(scores), ranking.why(best))
        return scores

    def _weigh_object(self, host_state, weight_properties):
        """Nova's own way, host by host, is never taken: `weigh_objects` stands in for it."""
        raise AssertionError('hosts are weighed together')
