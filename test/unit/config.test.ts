// Goal: a configuration is read whole or refused whole, and its manual says what the schema says.
// Method: TOML texts through parseConfig; the full text of errors as snapshots; the page compared with the generator.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  ConfigError,
  configurationMarkdown,
  defaultConfig,
  defaultConfigText,
  loadConfig,
  parseConfig,
} from '../../orchestrator/config.ts';
import type { GuestGroup } from '../../orchestrator/core/scale.ts';
import { enginePolicy } from '../../orchestrator/engine-policy.ts';
import { packagePath } from '../../orchestrator/package-path.ts';

/** The message of the error that reading `text` gives. */
function refusal(text: string): string {
  try {
    parseConfig(text, 'foreshade.toml');
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return 'accepted';
}

t.test('an empty file is the defaults, and the printed default file reads as the same', async (t) => {
  t.strictSame(parseConfig('', 'x'), defaultConfig());
  t.strictSame(parseConfig(defaultConfigText(), 'x'), defaultConfig());
  t.equal(defaultConfig().host.mode, 'shadow', 'a new host starts in shadow');
  t.equal(defaultConfig().service.tcp, undefined, 'and listens on its unix socket only');
});

t.test('the result is frozen at every level, in camelCase, without absent keys', async (t) => {
  const config = parseConfig('[host.reserved]\nmemory_mib = 2048\n[engine.quantile]\nlow = 0.7', 'x');
  t.equal(config.host.reserved.memoryMib, 2048);
  t.equal(config.engine.quantile.low, 0.7);
  t.notOk('tcp' in config.service);
  const check = (value: object, path: string): void => {
    t.ok(Object.isFrozen(value), path);
    for (const [key, child] of Object.entries(value)) {
      if (typeof child === 'object' && child !== null) check(child, `${path}.${key}`);
    }
  };
  check(config, 'config');
});

t.test('refusals name every problem with its path and its rule', async (t) => {
  const CASES = {
    'many at once': `
      state_dir = "relative"
      [host]
      mdoe = "shadow"
      mode = "fast"
      reserved = 5
      [engine]
      tick_ms = 5
      shrink_step_fraction = 0.02
      quantile = { low = 0.99, normal = "x" }
      [service]
      tcp = "0.0.0.0:80"
      [nonsense]
      a = 1`,
    "a socket beyond the kernel's bound": `[service]\nsocket = "/${'x'.repeat(107)}"`,
    'numbers that are none': '[engine]\ncooldown_ms = nan\nqueue_max = 1.5\ndeadband_fraction = -0.1',
    'groups that cannot be': `
      [groups.web]
      spare = -1
      [groups.db]
      guests = ["db-1", "db-1"]
      [scale]
      webhook_url = "ftp://example.org"
      webhook_token_file = "token"`,
    'a guest in two groups': `
      [groups.web]
      guests = ["a", "b"]
      [groups.db]
      guests = ["b"]`,
    'a token for nobody': '[scale]\nwebhook_token_file = "/etc/foreshade/token"',
    'a URL that holds a password': '[scale]\nwebhook_url = "https://me:secret@example.org/"',
    'not TOML': 'a = = 3',
    'a key of the prototype': '[host]\nconstructor = 1\n["__proto__"]\nx = 1',
  };
  for (const [name, text] of Object.entries(CASES)) t.matchSnapshot(refusal(text), name);
});

t.test('groups reach the engine with their bounds', async (t) => {
  const text = `
    [groups.web]
    guests = ["web-1", "web-2"]
    spare = 1
    level = 0.9
    idle_stop_s = 600
    [groups.batch]
    guests = ["batch-1"]
    [scale]
    boot_s = 20`;
  t.strictSame(enginePolicy(parseConfig(text, 'x')).scale, {
    groups: new Map<string, GuestGroup>([
      ['web', { name: 'web', guests: ['web-1', 'web-2'], spare: 1, level: 0.9, idleStopMs: 600_000 }],
      ['batch', { name: 'batch', guests: ['batch-1'], spare: 0 }],
    ]),
    startingMax: 2,
    bootMs: 20_000,
    cooldownMs: 300_000,
  });
});

t.test('only loopback addresses are listened on', async (t) => {
  const tcp = (value: string): string => refusal(`[service]\ntcp = "${value}"`);
  for (const good of ['127.0.0.1:7443', '127.9.9.9:1', '[::1]:65535']) t.equal(tcp(good), 'accepted', good);
  for (const bad of [
    '0.0.0.0:7443',
    '10.0.0.1:7443',
    '[::]:1',
    'example.org:1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    ':80',
    '127.0.0.1',
  ]) {
    t.match(tcp(bad), /service\.tcp: must be a loopback address and a port/, bad);
  }
});

t.test('rules between keys, each broken alone', async (t) => {
  const CASES: readonly [string, RegExp][] = [
    [
      '[engine.quantile]\nlow = 0.95',
      /engine\.quantile\.low: must not exceed engine\.quantile\.normal.*got 0\.95 and 0\.9/,
    ],
    ['[engine.quantile]\nnormal = 0.96', /engine\.quantile\.normal: must not exceed/],
    ['[engine.quantile]\ncritical = 0.94', /engine\.quantile\.high: must not exceed/],
    [
      '[engine]\ndeadband_fraction = 0.2',
      /engine\.deadband_fraction: must be below engine\.shrink_step_fraction/,
    ],
    ['[telemetry]\nfast_period_ms = 1001', /telemetry\.fast_period_ms: must not exceed/],
    ['[telemetry]\nfull_period_ms = 1001', /telemetry\.full_period_ms: must not exceed engine\.tick_ms/],
    ['[service]\nsocket = "/a"\nhttp_socket = "/a"', /service\.http_socket: must differ/],
    ['[service]\ntcp = "127.0.0.1:80"\nhttp_port = 80', /service\.http_port: must differ/],
    ['[proxmox]\nurl = "https://pve1:8006"\ntoken_file = "/a"', /proxmox\.node: must be given/],
    ['[proxmox]\nurl = "https://pve1:8006"\nnode = "pve1"', /proxmox\.token_file: must be given/],
    ['[proxmox]\nurl = "http://pve1:8006"', /proxmox\.url: must be an https URL/],
    ['[proxmox]\nurl = "https://me:secret@pve1:8006"', /proxmox\.url: must be an https URL/],
    ['[proxmox]\nfingerprint = "5A:0F"', /proxmox\.fingerprint: must be a SHA-256 fingerprint/],
  ];
  for (const [text, expected] of CASES) {
    const message = refusal(text);
    t.match(message, expected);
    t.match(message, /^foreshade\.toml: 1 problem\n/);
  }
});

t.test('files: a named one must exist; its name is in the error', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-config-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'a.toml');
  t.throws(() => loadConfig(file), {
    name: 'ConfigError',
    message: /a\.toml: 1 problem\n {2}cannot be read: ENOENT/,
  });
  writeFileSync(file, '[log]\nlevel = "debug"\n');
  t.equal(loadConfig(file).log.level, 'debug');
});

t.test('docs/configuration.md is what the schema says', async (t) => {
  t.equal(readFileSync(packagePath('docs/configuration.md'), 'utf8'), configurationMarkdown());
});
