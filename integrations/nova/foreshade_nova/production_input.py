"""What a request says of its work: `foreshade:` extra specs of its flavor, and scheduler hints of the same names, which win."""

import logging
import math
import re

LOG = logging.getLogger(__name__)

PREFIX = 'foreshade:'
PRIORITIES = ('low', 'normal', 'high', 'critical')
KINDS = ('number', 'category', 'text', 'size', 'time')
# A parameter's name, and its kind where the value alone does not tell.
PARAM_PATTERN = r'[A-Za-z0-9_.-]{1,128}(:(' + '|'.join(KINDS) + r'))?'
_PARAM = re.compile('param:(' + PARAM_PATTERN + ')')
_SIZE = re.compile(r'(\d+)\s*(KiB|MiB|GiB|TiB)?')
_UNITS = {None: 0, 'KiB': 10, 'MiB': 20, 'GiB': 30, 'TiB': 40}
# As the contract has it.
PARAMS_MAX = 64
CATEGORY_CHARS_MAX = 256
TEXT_CHARS_MAX = 4096
_DURATION_S_MAX = 31 * 86_400


def of_request(extra_specs, hints):
    """Fields of RankHostsRequest: workload, priority, duration_ms and params. What is not understood is said and left out.

    :param extra_specs: of the flavor, by name
    :param hints: scheduler hints, lists of texts by name
    """
    said = {name: value for name, value in (extra_specs or {}).items() if name.startswith(PREFIX)}
    for name, values in (hints or {}).items():
        if name.startswith(PREFIX) and values:
            said[name] = values[0] if isinstance(values, (list, tuple)) else values
    fields = {}
    params = {}
    for name, value in said.items():
        try:
            _read(name[len(PREFIX):], str(value), fields, params)
        except ValueError as cause:
            LOG.warning('%s is left out: %s', name, cause)
    if params:
        fields['params'] = params
    return fields


def _read(name, value, fields, params):
    param = _PARAM.fullmatch(name)
    if param:
        if len(params) >= PARAMS_MAX:
            raise ValueError(f'there are more than {PARAMS_MAX} parameters')
        key, _, kind = param.group(1).partition(':')
        params[key] = _param(kind, value)
    elif name == 'workload':
        if not 1 <= len(value) <= CATEGORY_CHARS_MAX:
            raise ValueError(f'it must have 1 to {CATEGORY_CHARS_MAX} characters')
        fields['workload'] = value
    elif name == 'priority':
        if value not in PRIORITIES:
            raise ValueError(f'it must be one of {", ".join(PRIORITIES)}')
        fields['priority'] = 'PRIORITY_' + value.upper()
    elif name == 'duration_s':
        if not (value.isdecimal() and 1 <= int(value) <= _DURATION_S_MAX):
            raise ValueError(f'it must be whole seconds from 1 to {_DURATION_S_MAX}')
        fields['duration_ms'] = str(int(value) * 1000)
    else:
        raise ValueError('no such name is known')


def _param(kind, value):
    """A ParamValue. Without a kind, a number is a number and anything else a category."""
    if kind == 'number' or (kind == '' and _is_number(value)):
        if not _is_number(value):
            raise ValueError(f'{value!r} is no finite number')
        return {'number': float(value)}
    if kind == 'text':
        if len(value) > TEXT_CHARS_MAX:
            raise ValueError(f'a text has at most {TEXT_CHARS_MAX} characters')
        return {'text': value}
    if kind == 'size':
        match = _SIZE.fullmatch(value)
        if not match:
            raise ValueError(f'{value!r} is no size: 4096, 64MiB')
        return {'size_bytes': str(int(match.group(1)) << _UNITS[match.group(2)])}
    if kind == 'time':
        if not value.isdecimal():
            raise ValueError(f'{value!r} is no time: milliseconds since the Unix epoch')
        return {'time_ms': value}
    if not 1 <= len(value) <= CATEGORY_CHARS_MAX:
        raise ValueError(f'a category has 1 to {CATEGORY_CHARS_MAX} characters')
    return {'category': value}


def _is_number(value):
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
