import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Debian's own: its gRPC is not in reach of another Python that may come first in the PATH. */
export const PYTHON = '/usr/bin/python3';
/** The Python client's folder. */
export const PYTHON_CLIENT = fileURLToPath(new URL('../../integrations/client-python', import.meta.url));

/** Why the Python client cannot run here; undefined: it can. */
export function pythonClientUnavailableReason(): string | undefined {
  if (!existsSync(PYTHON)) return `there is no ${PYTHON}`;
  const { status } = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' });
  if (status !== 0) return 'python3-grpcio or python3-protobuf is not installed';
  for (const program of ['protoc', 'grpc_python_plugin']) {
    if (spawnSync(program, ['--version'], { input: '', stdio: 'pipe' }).error)
      return `${program} is not installed`;
  }
  return undefined;
}

/**
 * Generate the contract's Python into a folder.
 * @returns the environment in which Python finds it and the client
 */
export function pythonClientEnv(folder: string): NodeJS.ProcessEnv {
  const env = {
    ...process.env,
    PYTHONDONTWRITEBYTECODE: '1',
    PYTHONPATH: `${folder}:${PYTHON_CLIENT}`,
  };
  const { status, stderr } = spawnSync(PYTHON, ['generate.py', folder], {
    cwd: PYTHON_CLIENT,
    env,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the contract's Python could not be generated: ${stderr}`);
  return env;
}
