export { type CallOptions, ForeshadeClient, TIMEOUT_MS_DEFAULT } from './client.ts';
export { ClientError, UNREACHABLE } from './client-error.ts';
export { HeldLease, type HoldOptions, type Keeping, LeaseLost, type WorkReport } from './held-lease.ts';
