import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { AllocatorError } from '../core/errors.ts';

/** Owner and group may connect: the group is how an administrator lets a scheduler in. */
export const SOCKET_MODE = 0o660;
/** The folder is made with no access for others, so that nobody reaches the socket before its mode is set. */
const FOLDER_MODE = 0o750;
/** Longest wait for a socket's owner to accept. A live server accepts in under a millisecond. */
const PROBE_TIMEOUT_MS = 1000;

/** Where HTTP is served unless the configuration says otherwise: beside the gRPC socket. */
export function httpSocketBeside(socket: string): string {
  return socket.replace(/(\.sock)?$/, '.http.sock');
}

/**
 * Make `path` free to listen on: create its folder, and remove a socket that a dead server left behind.
 * @throws {AllocatorError} STATE_CONFLICT when a live server owns it, or something there is not a socket
 */
export async function claimSocketPath(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: FOLDER_MODE });
  const present = lstatSync(path, { throwIfNoEntry: false });
  if (!present) return;
  if (!present.isSocket()) {
    throw new AllocatorError('STATE_CONFLICT', `${path} exists and is not a socket; it must be moved away.`, {
      path,
    });
  }
  if (await isAnswered(path)) {
    throw new AllocatorError(
      'STATE_CONFLICT',
      `Another server is listening on ${path}; it must be stopped first, or service.socket must name another path.`,
      { path },
    );
  }
  rmSync(path, { force: true });
}

/** True when a connection is accepted, or when the owner is too busy to: only a refusal means that nobody is there. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
}
