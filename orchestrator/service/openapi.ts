import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  ScalarType,
} from '@bufbuild/protobuf';
import { type Commented, commentOf } from './comments.ts';
import type { Contract } from './contract.ts';
import type { Route } from './route.ts';

/** A JSON Schema, or any other object of the document. */
type Json = Record<string, unknown>;

/** An int64 is written as a string, since JSON's readers keep 53 bits; both forms are read. */
const INT64: Json = { type: ['string', 'integer'], format: 'int64' };
/** NaN and the infinities are strings. */
const FLOAT: Json = { type: ['number', 'string'], format: 'double' };

const SCALAR: Readonly<Record<ScalarType, Json>> = {
  [ScalarType.DOUBLE]: FLOAT,
  [ScalarType.FLOAT]: FLOAT,
  [ScalarType.INT64]: INT64,
  [ScalarType.UINT64]: INT64,
  [ScalarType.FIXED64]: INT64,
  [ScalarType.SFIXED64]: INT64,
  [ScalarType.SINT64]: INT64,
  [ScalarType.INT32]: { type: 'integer', format: 'int32' },
  [ScalarType.FIXED32]: { type: 'integer', minimum: 0 },
  [ScalarType.UINT32]: { type: 'integer', minimum: 0 },
  [ScalarType.SFIXED32]: { type: 'integer', format: 'int32' },
  [ScalarType.SINT32]: { type: 'integer', format: 'int32' },
  [ScalarType.BOOL]: { type: 'boolean' },
  [ScalarType.STRING]: { type: 'string' },
  [ScalarType.BYTES]: { type: 'string', contentEncoding: 'base64' },
};

/** Messages that have a form of their own in JSON; of these the contract uses two. */
const WELL_KNOWN: Readonly<Record<string, Json>> = {
  'google.protobuf.Any': { type: 'object', required: ['@type'], properties: { '@type': { type: 'string' } } },
  'google.protobuf.Duration': { type: 'string', pattern: '^-?\\d+(\\.\\d{1,9})?s$' },
};

/** The unary methods as an OpenAPI 3.1 document, its words the contract's own comments. */
export function openApi(contract: Contract, routes: readonly Route[], version: string): Json {
  const methods = routes.filter(({ serve }) => serve !== undefined).map(({ path }) => contract.method(path));
  const failure = contract.message('google.rpc.Status');
  const schemas = new Schemas();
  const paths: Json = {};
  for (const method of methods) {
    paths[`/${method.parent.typeName}/${method.name}`] = { post: operation(method, failure, schemas) };
  }
  const services = [...new Set(methods.map(({ parent }) => parent))];
  return {
    openapi: '3.1.0',
    info: {
      title: 'Foreshade',
      version,
      description:
        'Messages are canonical proto JSON: fields at their default are left out, unknown ones are refused in requests.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    tags: services.map((service) => ({ name: service.typeName, ...described(service) })),
    paths,
    components: { schemas: schemas.all() },
  };
}

function operation(method: DescMethod, failure: DescMessage, schemas: Schemas): Json {
  const content = (message: DescMessage): Json => ({
    'application/json': { schema: schemas.reference(message) },
  });
  return {
    operationId: `${method.parent.name}_${method.name}`,
    tags: [method.parent.typeName],
    ...described(method),
    parameters: [
      {
        name: 'grpc-timeout',
        in: 'header',
        description: 'Longest wait for the answer: 1 to 8 digits and a unit of H, M, S, m, u, n.',
        schema: { type: 'string', pattern: '^\\d{1,8}[HMSmun]$', examples: ['500m'] },
      },
    ],
    requestBody: { required: true, content: content(method.input) },
    responses: {
      200: { description: method.output.name, content: content(method.output) },
      default: { description: 'What went wrong, with ErrorInfo.', content: content(failure) },
    },
  };
}

/** Schemas of messages and enums by their full name, collected as they are referred to. */
class Schemas {
  readonly #schemas = new Map<string, Json>();

  reference(desc: DescMessage | DescEnum): Json {
    const own = WELL_KNOWN[desc.typeName];
    if (own !== undefined) return own;
    if (!this.#schemas.has(desc.typeName)) {
      this.#schemas.set(desc.typeName, {}); // before its fields, which may refer to it
      this.#schemas.set(desc.typeName, desc.kind === 'enum' ? enumSchema(desc) : this.#message(desc));
    }
    return { $ref: `#/components/schemas/${desc.typeName}` };
  }

  all(): Json {
    return Object.fromEntries([...this.#schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  #message(desc: DescMessage): Json {
    const properties = desc.fields.map((field): [string, Json] => [
      field.jsonName,
      { ...this.#field(field), ...described(field) },
    ]);
    const isChoice = desc.oneofs.length === 1 && desc.fields.every(({ oneof }) => oneof === desc.oneofs[0]);
    return {
      type: 'object',
      ...described(desc),
      properties: Object.fromEntries(properties),
      ...(isChoice && { maxProperties: 1 }),
    };
  }

  #field(field: DescField): Json {
    switch (field.fieldKind) {
      case 'scalar':
        return SCALAR[field.scalar];
      case 'enum':
        return this.reference(field.enum);
      case 'message':
        return this.reference(field.message);
      case 'list':
        return { type: 'array', items: this.#element(field.scalar, field.message ?? field.enum) };
      case 'map':
        return {
          type: 'object',
          additionalProperties: this.#element(field.scalar, field.message ?? field.enum),
        };
    }
  }

  #element(scalar: ScalarType | undefined, desc: DescMessage | DescEnum | undefined): Json {
    return desc === undefined ? SCALAR[scalar ?? ScalarType.STRING] : this.reference(desc);
  }
}

function enumSchema(desc: DescEnum): Json {
  const meanings = desc.values.map((value) => [value.name, commentOf(value)] as const);
  const lines = [
    commentOf(desc),
    ...meanings.filter(([, text]) => text !== '').map((pair) => pair.join(': ')),
  ];
  const description = lines.filter((line) => line !== '').join('\n');
  return {
    type: 'string',
    ...(description !== '' && { description }),
    enum: desc.values.map(({ name }) => name),
  };
}

function described(desc: Commented): Json {
  const description = commentOf(desc);
  return description === '' ? {} : { description };
}
