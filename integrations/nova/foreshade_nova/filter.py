"""The scheduler's filter: takes out hosts that Foreshade vetoes. See docs/nova.md."""

import logging

import nova.conf
from nova.scheduler import filters
from nova.scheduler import utils

from foreshade_nova import conf
from foreshade_nova import desk

LOG = logging.getLogger(__name__)


class ForeshadeFilter(filters.BaseHostFilter):
    """Asks about all hosts of a decision at once. List it last in enabled_filters: then it asks about the fewest."""

    # A rebuild stays where it is.
    RUN_ON_REBUILD = False

    def __init__(self):
        self._options = conf.register(nova.conf.CONF)

    def filter_all(self, filter_obj_list, spec_obj):
        hosts = list(filter_obj_list)
        if utils.request_is_rebuild(spec_obj):
            return hosts
        asked = desk.of(self._options)
        ranking = asked.ask(hosts, spec_obj)
        if ranking is None or not self._options.veto:
            return hosts
        return [host for host in hosts if not self._is_vetoed(asked.name_of(host), ranking, spec_obj)]

    def _is_vetoed(self, name, ranking, spec_obj):
        why = ranking.veto(name)
        if why is not None:
            LOG.info('Foreshade vetoes host %s for instance %s: %s', name, spec_obj.instance_uuid, why)
        return why is not None
