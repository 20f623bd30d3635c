// Goal: the dependency arrows of ARCHITECTURE.md hold. Method: read every import of every source file and compare its
// target with what its folder is allowed.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';

const NODE = 'node:';
const CORE = 'orchestrator/core/';
const PROTO = 'proto/gen/';

/** `allow` are prefixes of what a folder's files may import; `except` are files with rules of their own. */
const RULES = [
  { from: 'orchestrator/core', allow: [CORE, 'node:assert'] },
  { from: 'orchestrator/engine', allow: ['orchestrator/engine/', CORE, 'node:assert', 'node:crypto'] },
  { from: 'orchestrator/wasm', allow: ['orchestrator/wasm/', 'orchestrator/package-path.ts', CORE, NODE] },
  { from: 'orchestrator/forecast', allow: ['orchestrator/forecast/', 'orchestrator/wasm/', CORE, NODE] },
  { from: 'orchestrator/scale', allow: ['orchestrator/scale/', CORE, NODE] },
  { from: 'orchestrator/ledger', allow: ['orchestrator/ledger/', CORE, NODE, 'lmdb'] },
  {
    from: 'orchestrator/store',
    allow: [
      'orchestrator/store/',
      'orchestrator/state-lock.ts',
      CORE,
      NODE,
      'apache-arrow',
      '@duckdb/node-api',
    ],
  },
  {
    from: 'orchestrator/replay',
    allow: ['orchestrator/replay/', 'orchestrator/engine/', CORE, NODE, 'apache-arrow'],
  },
  {
    from: 'orchestrator/service',
    allow: [
      'orchestrator/service/',
      'orchestrator/config.ts',
      'orchestrator/package-path.ts',
      CORE,
      PROTO,
      NODE,
      '@grpc/',
      '@bufbuild/protobuf',
      'grpc-health-check',
      'fastify',
      'prom-client',
      'pino',
    ],
  },
  { from: 'integrations/client-node', allow: ['integrations/client-node/', PROTO, NODE, '@grpc/grpc-js'] },
  { from: 'integrations/proxmox', allow: ['integrations/proxmox/', CORE, NODE] },
  { from: 'libvirt-adapter', allow: ['libvirt-adapter/', CORE, NODE] },
  { from: 'models/files', allow: ['models/files/', CORE, NODE, '@bufbuild/protobuf'] },
  { from: 'models/data', allow: ['models/data/', CORE, NODE, '@duckdb/node-api'] },
  {
    from: 'models/detect',
    allow: ['models/detect/', 'models/data/', 'models/evaluate/durations.ts', CORE, NODE],
  },
  {
    from: 'models/train',
    allow: [
      'models/train/',
      'models/data/',
      'orchestrator/forecast/series-model.ts',
      'orchestrator/wasm/',
      CORE,
      NODE,
    ],
  },
  {
    from: 'models/report',
    allow: ['models/report/', 'models/evaluate/', 'models/backtest/', CORE],
  },
  { from: 'models/evaluate', allow: ['models/evaluate/', 'models/data/', CORE] },
  {
    from: 'models/backtest',
    allow: ['models/backtest/', 'models/data/', 'models/evaluate/scores.ts', CORE],
  },
] as const;

function sourcesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => join(folder, name));
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const names = [
    ...text.matchAll(/^(?:import|export)\b[^;]*?\bfrom\s+'([^']+)'|\bimport\s*\(?\s*'([^']+)'/gms),
  ];
  return names
    .map(([, from, bare]) => from ?? bare ?? '')
    .map((name) => (name.startsWith('.') ? normalize(join(dirname(file), name)) : name));
}

for (const { from, allow } of RULES) {
  t.test(`${from} imports only what its arrows allow`, async (t) => {
    const files = sourcesBelow(from);
    t.not(files.length, 0, 'a rule that matches no file guards nothing');
    for (const file of files) {
      for (const target of importsOf(file)) {
        t.ok(
          allow.some((prefix) => target.startsWith(prefix)),
          `${file} -> ${target}`,
        );
      }
    }
  });
}

t.test('only main.ts, the command line and tests wire adapters together', async (t) => {
  const adapters = [
    'orchestrator/wasm/',
    'orchestrator/forecast/',
    'orchestrator/ledger/',
    'orchestrator/store/',
    'orchestrator/engine/',
    'libvirt-adapter/',
    'integrations/proxmox/',
  ];
  for (const file of [...sourcesBelow('orchestrator'), ...sourcesBelow('libvirt-adapter')]) {
    const home = adapters.find((adapter) => file.startsWith(adapter));
    if (home === undefined || home === 'orchestrator/forecast/') continue;
    const strays = importsOf(file).filter((target) =>
      adapters.some((adapter) => adapter !== home && target.startsWith(adapter)),
    );
    t.strictSame(strays, [], file);
  }
});

t.test('WebAssembly is reached through one door', async (t) => {
  const users = sourcesBelow('orchestrator').filter((file) =>
    /\bWebAssembly\./.test(readFileSync(file, 'utf8')),
  );
  t.not(users.length, 0);
  for (const file of users) t.match(file, /^orchestrator\/wasm\//);
});
