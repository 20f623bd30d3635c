import type { StartRequest } from '../orchestrator/core/guest-start.ts';
import { quoted, startRequestOf, type WrittenAttributes } from '../orchestrator/core/start-request.ts';
import type { XmlElement } from './xml.ts';

/** Namespace of what a domain's metadata asks of Foreshade. The hook's program looks for it too. */
export const REQUEST_NAMESPACE = 'urn:foreshade:request:1';

/** Prefixes in force and what they stand for; the default namespace is under the empty one. */
type Scope = ReadonlyMap<string, string>;

/**
 * What a domain's metadata asks for at each start: the first `request` element of our namespace. Elements of other namespaces are
 * nobody's business here, and are passed over.
 * @param root the domain's element
 */
export function readStartRequest(root: XmlElement): StartRequest | undefined {
  const ofRoot = scopeIn(new Map(), root);
  for (const metadata of root.children.filter(({ name }) => name === 'metadata')) {
    const outer = scopeIn(ofRoot, metadata);
    for (const element of metadata.children) {
      const scope = scopeIn(outer, element);
      if (isOurs(element, scope, 'request')) return requestIn(element, scope);
    }
  }
  return undefined;
}

function requestIn({ attributes, children }: XmlElement, scope: Scope): StartRequest {
  const params: WrittenAttributes[] = [];
  const problems: string[] = [];
  for (const child of children) {
    if (isOurs(child, scopeIn(scope, child), 'param')) params.push(withoutNamespaces(child.attributes));
    else problems.push(`<${quoted(child.name)}> is no param`);
  }
  return startRequestOf({ attributes: withoutNamespaces(attributes), params, problems });
}

function withoutNamespaces(attributes: WrittenAttributes): WrittenAttributes {
  return Object.fromEntries(
    Object.entries(attributes).filter(([name]) => name !== 'xmlns' && !name.startsWith('xmlns:')),
  );
}

function scopeIn(outer: Scope, { attributes }: XmlElement): Scope {
  const declared = Object.entries(attributes).flatMap(([name, value]): [string, string][] => {
    if (name === 'xmlns') return [['', value]];
    return name.startsWith('xmlns:') ? [[name.slice('xmlns:'.length), value]] : [];
  });
  return declared.length === 0 ? outer : new Map([...outer, ...declared]);
}

function isOurs({ name }: XmlElement, scope: Scope, local: string): boolean {
  const colon = name.indexOf(':');
  return (
    name.slice(colon + 1) === local && scope.get(name.slice(0, Math.max(0, colon))) === REQUEST_NAMESPACE
  );
}
