"""Options of the [foreshade] section of nova.conf."""

from oslo_config import cfg

GROUP = cfg.OptGroup('foreshade', title='Foreshade, which ranks hosts for new guests')

OPTIONS = [
    cfg.StrOpt('url', default='unix:/run/foreshade/foreshade.http.sock',
               help='Where Foreshade serves JSON over HTTP: unix:/path of its socket, or http://127.0.0.1:port.'),
    cfg.IntOpt('deadline_ms', default=230, min=1, max=10_000,
               help='Longest wait for an answer. Without one every host passes and weighs alike.'),
    cfg.FloatOpt('breaker_s', default=5.0, min=0.0, max=3600.0,
                 help='After a failure Foreshade is not asked for so long, and every host passes and weighs alike.'),
    cfg.BoolOpt('veto', default=True,
                help='Take hosts out that Foreshade vetoes. False: they pass, with the lowest weight.'),
    cfg.FloatOpt('weight_multiplier', default=100.0,
                 help='Say of the scores, which lie in [0, 1], beside other weighers, which lie in [0, 1] too. At 100 the '
                      'others decide where scores differ by a hundredth. Aggregates may have one of their own, in '
                      'their metadata: foreshade_weight_multiplier.'),
    cfg.StrOpt('host_key', default='nodename', choices=['nodename', 'host'],
               help='Which of a host\'s names its agent reports: the hypervisor\'s (nodename) or the compute service\'s '
                    '(host).'),
    cfg.StrOpt('goal', default='spread', choices=['spread', 'pack'],
               help='Prefer the host with the most left, or the fullest that still holds the guest.'),
]


def register(conf):
    """Make the options known; again does nothing. Gives the section."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
    return conf.foreshade


def list_opts():
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS)]
