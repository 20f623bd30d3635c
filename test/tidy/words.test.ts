// Goal: what no file may hold stays out: marks of unfinished work, paths of one machine, escape hatches of the type
// system. Method: read every tracked source and document.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';

/** Absent git, an unpacked archive and a clone of somebody else's all leave this empty. */
const listed = spawnSync('git', ['ls-files'], { encoding: 'utf8' }).stdout ?? '';
const skip = listed === '' && 'only git knows which files are tracked, and it lists none here';

const tracked = listed
  .split('\n')
  .filter((name) => /\.(ts|mjs|js|cc|h|c|md|proto|json|toml|py|sh)$/.test(name))
  .filter(
    (name) =>
      name !== 'package-lock.json' && !name.startsWith('proto/gen/') && name !== 'test/tidy/words.test.ts',
  );

const BANNED = [
  { name: 'a mark of unfinished work', pattern: /\b(TO[D]O|FIX[M]E|X{3})\b/, files: /./ },
  { name: 'a path of one machine', pattern: /(^|[\s"'`(])\/(work|root|home)\//, files: /./ },
  { name: 'the type any', pattern: /(:\s*any\b|<any>|\bas any\b)/, files: /\.ts$/ },
  { name: 'an enum', pattern: /^\s*(export\s+)?(const\s+)?enum\s/m, files: /^(?!assembly).*\.ts$/ },
  { name: 'a default export', pattern: /^export default /m, files: /\.ts$/ },
  {
    name: 'a silenced check',
    pattern: /@ts-(ignore|nocheck|expect-error)/,
    files: /^(?!assembly|test).*\.ts$/,
  },
];

for (const { name, pattern, files } of BANNED) {
  t.test(`no file holds ${name}`, { skip }, async (t) => {
    t.not(tracked.length, 0, 'nothing tracked would make this test empty');
    for (const file of tracked.filter((file) => files.test(file))) {
      const match = pattern.exec(readFileSync(file, 'utf8'));
      t.equal(match, null, match === null ? file : `${file}: ${match[0].trim()}`);
    }
  });
}

t.test('lock files carry no download addresses', async (t) => {
  t.notMatch(readFileSync('package-lock.json', 'utf8'), /"resolved":/);
});

t.test('files with vague names do not exist', { skip }, async (t) => {
  for (const file of tracked) t.notMatch(file, /\/(utils?|helpers?|common|manager|handlers?|misc)\.[a-z]+$/);
});
