import { Agent, type AgentOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';

/** Connections kept for later calls: as many as go on at once, and no more than pveproxy has workers to spare. */
const SOCKETS_MAX = 8;
/** pveproxy closes a connection that was idle for 5 s (its `keep_alive_timeout`); ours go before. */
const IDLE_MS = 4_000;

/** What a server is recognised by. */
export interface ServerTrust {
  /** SHA-256 of the server's certificate, hex digits with or without colons. With it no other authority is needed. */
  readonly fingerprint?: string;
  /** Certificates of authorities, PEM. Absent: the system's. */
  readonly ca?: string;
}

type Connected = (error: Error | null, socket: Duplex) => void;

/** Hex digits of a fingerprint, upper case, without colons. */
function digits(fingerprint: string): string {
  return fingerprint.replaceAll(':', '').toUpperCase();
}

/**
 * TLS connections to a server that is who it should be. A pinned server is compared before a byte of a request, and so of
 * the token, is sent: the chain and the name are then of no account, since Proxmox VE makes its own authority.
 */
export class SecureAgent extends Agent {
  readonly #fingerprint: string | undefined;

  constructor({ fingerprint, ca }: ServerTrust) {
    const trust: AgentOptions = {
      // A resumed session has no certificate to look at.
      ...(fingerprint !== undefined && { rejectUnauthorized: false, maxCachedSessions: 0 }),
      ...(ca !== undefined && { ca, rejectUnauthorized: true }),
    };
    super({ keepAlive: true, maxSockets: SOCKETS_MAX, timeout: IDLE_MS, minVersion: 'TLSv1.2', ...trust });
    this.#fingerprint = fingerprint === undefined ? undefined : digits(fingerprint);
  }

  /** Called by Node for each new connection; the socket is handed over once it is known to be the right server's. */
  override createConnection(options: unknown, onConnected?: unknown): Duplex | undefined {
    const done = onConnected as Connected;
    const socket: TLSSocket = connect(options as ConnectionOptions);
    const fail = (error: Error): void => done(error, socket);
    socket.once('error', fail);
    socket.once('secureConnect', () => {
      socket.off('error', fail);
      const problem = this.#problemOf(socket);
      if (problem === undefined) {
        done(null, socket);
        return;
      }
      socket.on('error', () => {}); // it is being thrown away: what else goes wrong with it is of no interest
      socket.destroy();
      done(problem, socket);
    });
    return undefined;
  }

  #problemOf(socket: TLSSocket): Error | undefined {
    if (this.#fingerprint === undefined) return undefined;
    const seen = socket.getPeerCertificate().fingerprint256 ?? 'none';
    if (digits(seen) === this.#fingerprint) return undefined;
    return new Error(`the server's certificate is not the pinned one: its SHA-256 is ${seen}`);
  }
}
