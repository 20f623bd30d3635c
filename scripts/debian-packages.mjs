import { spawnSync } from 'node:child_process';
import { run, say, step } from './steps.mjs';

/** Packages of the list that dpkg does not know as installed; undefined where there is no dpkg. */
export function missingPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own fields
  const query = spawnSync('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\n', ...names], {
    encoding: 'utf8',
  });
  if (query.error) return undefined;
  const installed = new Set(
    query.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return names.filter((name) => !installed.has(name));
}

/** The words that make a command root's: none as root, sudo where it asks for no password, undefined otherwise. */
function asRoot() {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : undefined;
}

/**
 * Install packages that are missing, without what they only recommend, and say what is done.
 * @returns those that are missing still; undefined where there is no dpkg
 */
export function installPackages(names) {
  const missing = missingPackages(names);
  if (missing === undefined || missing.length === 0) return missing;
  const root = asRoot();
  if (root === undefined) {
    say(`neither root nor password-less sudo: please install ${missing.join(' ')}`);
    return missing;
  }
  const apt = [
    ...root,
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-q',
    '-y',
    '-o',
    'Dpkg::Use-Pty=0',
  ];
  step(`installing ${missing.length} Debian packages: ${missing.join(' ')}`, () => {
    if (run([...apt, 'update']) !== 0) say('apt-get update failed; trying with the lists at hand');
    return run([...apt, 'install', '--no-install-recommends', ...missing]);
  });
  const still = missingPackages(names) ?? [];
  if (still.length > 0) say(`could not install: ${still.join(' ')}`);
  return still;
}
