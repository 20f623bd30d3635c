import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A certificate for `localhost` that signs itself, and its key. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** SHA-256, hex digits with colons. */
  readonly fingerprint: string;
}

/** Make a certificate by openssl; undefined where that is not installed. */
export function makeCertificate(name = 'localhost'): Certificate | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'certificate-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`];
  try {
    execFileSync('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
    const text = readFileSync(cert, 'utf8');
    return {
      cert: text,
      key: readFileSync(key, 'utf8'),
      fingerprint: new X509Certificate(text).fingerprint256,
    };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
