import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { GuestDefinition, StartRequest } from '../../orchestrator/core/guest-start.ts';
import { PARAM_KINDS, quoted, startRequestOf } from '../../orchestrator/core/start-request.ts';
import { describedFacts, type OperatorsWord } from './described-facts.ts';
import { guestIdOf, readGuestConfig } from './guest-config.ts';

/** Beginning of the lines of a guest's notes that ask something of Foreshade. */
const MARK = 'foreshade:';
/** A key, and the rest of its line. */
const LINE = /^([a-z][a-z0-9_-]{0,63}):\s*(.*?)\s*$/;
/** NAME=VALUE or KIND.NAME=VALUE, with the value in quotes where it has spaces. */
const WORD = /([^\s=]{1,300})=(?:"([^"]*)"|(\S*))|(\S+)/g;

/**
 * A guest from the file of its configuration, as the hookscript passes it: a line `vmid: N`, then the file. Its sizes once
 * it has started are those of the file; what it asks for stands in its notes.
 * @throws {AllocatorError} INVALID_REQUEST when it is no such file
 */
export function readDefinition(text: string, word: OperatorsWord): GuestDefinition {
  const fields: Record<string, string> = {};
  const notes: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('[')) break; // snapshots, and what waits for a reboot and is in force by then
    if (line.startsWith('#')) notes.push(decoded(line.slice(1)));
    const [, key, value] = LINE.exec(line) ?? [];
    if (key !== undefined && value !== undefined) fields[key] = value;
  }
  const vmid = Number(fields.vmid);
  if (!Number.isSafeInteger(vmid) || vmid < 100)
    throw new AllocatorError('INVALID_REQUEST', 'The definition does not say which VMID it is of.');
  const config = readGuestConfig(fields);
  const request = readStartRequest(notes);
  return {
    facts: describedFacts(config, { id: guestIdOf(config, vmid), vmid, state: 'shut-off' }, word),
    ...(request !== undefined && { request }),
  };
}

/** Notes are kept with a percent sign and two hex digits for what a line cannot hold. */
function decoded(line: string): string {
  try {
    return decodeURIComponent(line);
  } catch {
    return line;
  }
}

/** What the notes ask for at each start; undefined: nothing. */
function readStartRequest(notes: readonly string[]): StartRequest | undefined {
  const lines = notes.map((line) => line.trim()).filter((line) => line.startsWith(MARK));
  if (lines.length === 0) return undefined;
  const attributes = new Map<string, string>();
  const params: Record<string, string>[] = [];
  const problems: string[] = [];
  for (const [, name, quotedValue, bareValue, stray] of lines.flatMap((line) => [
    ...line.slice(MARK.length).matchAll(WORD),
  ])) {
    const value = quotedValue ?? bareValue ?? '';
    if (name === undefined) problems.push(`${quoted(stray ?? '')} is no NAME=VALUE`);
    else if (isParam(name)) params.push(paramOf(name, value));
    else if (attributes.has(name)) problems.push(`${quoted(name)} is given twice`);
    else attributes.set(name, value);
  }
  return startRequestOf({ attributes: Object.fromEntries(attributes), params, problems });
}

function isParam(name: string): boolean {
  return PARAM_KINDS.some((kind) => name.startsWith(`${kind}.`));
}

function paramOf(name: string, value: string): Record<string, string> {
  const dot = name.indexOf('.');
  return { name: name.slice(dot + 1), [name.slice(0, dot)]: value };
}
