import { AllocatorError } from '../../orchestrator/core/errors.ts';

/**
 * Refuse a file.
 * @param rule one sentence that states what is required or what is wrong
 * @throws {AllocatorError} INVALID_REQUEST, always
 */
export function refuse(rule: string, facts: Record<string, string | number> = {}, cause?: unknown): never {
  throw new AllocatorError('INVALID_REQUEST', rule, facts, cause === undefined ? undefined : { cause });
}
