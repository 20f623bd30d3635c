import { stringify } from 'smol-toml';
import { CROSS_RULES } from './rules.ts';
import { isUnderAnyName, SCHEMA_ENTRIES, type SchemaEntry } from './walk.ts';

const tomlValue = (value: unknown): string =>
  stringify({ value })
    .replace(/^value = /, '')
    .trim();
const lastName = (path: string): string => path.slice(path.lastIndexOf('.') + 1);

function keyLines({
  path,
  description,
  key,
}: SchemaEntry & { key: NonNullable<SchemaEntry['key']> }): string {
  const isSet = key.fallback !== undefined && !isUnderAnyName(path);
  const value = key.fallback === undefined ? '' : ` ${tomlValue(key.fallback)}`;
  return `# ${description}\n# Must be ${key.rule}.\n${isSet ? '' : '# '}${lastName(path)} =${value}\n`;
}

/** A configuration file with every key at its default and what it means above it. Optional keys are commented out. */
export function defaultConfigText(): string {
  return SCHEMA_ENTRIES.map((entry) =>
    entry.key
      ? keyLines({ ...entry, key: entry.key })
      : `# ${entry.description}\n${isUnderAnyName(entry.path) ? '# ' : ''}[${entry.path}]\n`,
  ).join('\n');
}

/** `docs/configuration.md`, made from the schema; a test compares the file with it. */
export function configurationMarkdown(): string {
  const lines = [
    '# Configuration',
    '',
    'One TOML file, `/etc/foreshade/foreshade.toml` unless `--config` names another; without a file every key has its',
    'default. It is read once, at start: unknown keys are refused and every problem is reported together.',
    '`foreshade config check` reads it and changes nothing; `foreshade config default` prints a file to start from.',
    '',
    'This page is generated from the schema.',
    '',
  ];
  let tableOpen = false;
  for (const { path, description, key } of SCHEMA_ENTRIES) {
    if (!key) {
      lines.push('', `## \`[${path}]\``, '', description, '');
      tableOpen = false;
      continue;
    }
    if (!tableOpen) lines.push('| key | default | meaning | must be |', '|---|---|---|---|');
    tableOpen = true;
    const none = key.isRequired ? '(must be given)' : '(absent)';
    const fallback = key.fallback === undefined ? none : `\`${tomlValue(key.fallback)}\``;
    lines.push(`| \`${lastName(path)}\` | ${fallback} | ${description} | ${key.rule} |`);
  }
  lines.push('', '## Rules between keys', '');
  for (const { keys, rule } of CROSS_RULES) lines.push(`- \`${keys[0]}\` ${rule}.`);
  return `${lines.join('\n').replace(/\n{3,}/g, '\n\n')}\n`;
}
