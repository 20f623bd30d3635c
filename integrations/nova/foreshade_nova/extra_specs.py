"""Tells Nova's API which `foreshade:` extra specs a flavor may have."""

from nova.api.validation.extra_specs import base

from foreshade_nova import production_input

EXTRA_SPEC_VALIDATORS = [
    base.ExtraSpecValidator(
        name='foreshade:workload',
        description='What kind of work the guest is for: requests of one workload learn from each other.',
        value={'type': str, 'pattern': r'.{1,256}'},
    ),
    base.ExtraSpecValidator(
        name='foreshade:priority',
        description='How sure the forecast is to be.',
        value={'type': str, 'enum': list(production_input.PRIORITIES)},
    ),
    base.ExtraSpecValidator(
        name='foreshade:duration_s',
        description='How long the work lasts, in seconds, where it is known.',
        value={'type': int, 'min': 1},
    ),
    base.ExtraSpecValidator(
        name='foreshade:param:{name}',
        description='A parameter of the work. Its name may end in the kind of its value: ":number", ":category", ":text", '
                    '":size" or ":time".',
        parameters=[{'name': 'name', 'pattern': production_input.PARAM_PATTERN}],
        value={'type': str, 'pattern': r'.{1,4096}'},
    ),
]


def register():
    return EXTRA_SPEC_VALIDATORS
