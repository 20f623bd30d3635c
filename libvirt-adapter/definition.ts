import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestDefinition } from '../orchestrator/core/guest-start.ts';
import { describedFacts } from './described-facts.ts';
import { DomainXmlError, describeDomain } from './domain-xml.ts';
import { readStartRequest } from './start-request.ts';
import { parseXml, XmlError } from './xml.ts';

/** Until a guest runs, nobody knows whether any of it can be moved. */
const UNKNOWN = {
  cpuQuota: false,
  vcpuPlug: false,
  vcpuUnplug: false,
  agent: false,
  balloon: false,
  virtioMem: false,
  diskLimits: false,
  netLimits: false,
} as const;

/**
 * A guest from its domain's XML: its sizes once it has started, and what its metadata asks for.
 * @throws {AllocatorError} INVALID_REQUEST when it is no domain's XML
 */
export function readDefinition(xml: string): GuestDefinition {
  try {
    const root = parseXml(xml);
    const facts = describedFacts(describeDomain(root), 'shut-off', UNKNOWN);
    const request = readStartRequest(root);
    return { facts, ...(request !== undefined && { request }) };
  } catch (cause) {
    if (!(cause instanceof XmlError || cause instanceof DomainXmlError)) throw cause;
    throw new AllocatorError(
      'INVALID_REQUEST',
      `The domain's XML cannot be read: ${cause.message}.`,
      {},
      { cause },
    );
  }
}
