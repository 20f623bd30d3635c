import type { Decision } from '../../proto/gen/foreshade/v1/allocation.ts';
import { FIELD_TEXT } from './profile-text.ts';
import { cores, localTime, seconds, size } from './quantities.ts';

type Inputs = Readonly<Record<string, string>>;

const ADMITTED: Readonly<Record<string, string>> = {
  grant: 'granted',
  'grant-part': 'granted in part',
  'no-room': 'no room',
};

/** How each kind of decision is told; `told` names the inputs that its sentence holds. */
const SENTENCES: Readonly<
  Record<string, { readonly told: readonly string[]; readonly tell: (decision: Decision) => string }>
> = {
  admit: {
    told: ['requestedMillicores', 'requestedMemoryBytes', 'committedMillicores', 'forecast'],
    tell: ({ rule = '', inputs, outcome }) =>
      `Asked for ${sizes(inputs, 'requested')} (forecast: ${inputs.forecast}), while ${cores(Number(inputs.committedMillicores))} of the host were promised: ${ADMITTED[rule] ?? rule}, ${outcome}.`,
  },
  actuate: {
    told: ['grantedMillicores', 'grantedMemoryBytes', 'tookMs'],
    tell: ({ inputs, outcome }) =>
      `The guest held ${sizes(inputs, 'granted')} ${seconds(Number(inputs.tookMs))} after the request: ${outcome}.`,
  },
  adjust: {
    told: ['from', 'to', 'residual', 'reason'],
    tell: ({ rule = '', inputs, outcome }) => {
      const show = (value: string | undefined): string => quantityOf(rule)(Number(value));
      const residual = Number(inputs.residual);
      const side = residual < 0 ? 'below' : 'above';
      return `Moved its ${rule} from ${show(inputs.from)} to ${show(inputs.to)}, since ${inputs.reason} (${quantityOf(rule)(Math.abs(residual))} ${side} the forecast's median): ${outcome}.`;
    },
  },
  release: {
    told: ['heldMillicores', 'heldMemoryBytes'],
    tell: ({ rule = '', inputs, outcome }) =>
      `The lease ended as ${rule}, and its guest then held ${sizes(inputs, 'held')}: ${outcome}.`,
  },
};

/** One decision in a sentence: what was known, what was decided and what came of it. */
export function sentenceOf(decision: Decision): string {
  const { action = '', rule = '', outcome = '', inputs } = decision;
  const plain = { told: [], tell: () => `${capital(action)} by the rule ${rule}: ${outcome}.` };
  const kind = SENTENCES[action];
  const { told, tell } = kind?.told.every((name) => Object.hasOwn(inputs, name)) ? kind : plain;
  const rest = Object.entries(inputs).filter(([name]) => !told.includes(name));
  const more = rest.map(([name, value]) => `${words(name)} ${value}`).join(', ');
  return tell(decision) + (more === '' ? '' : ` Known as well: ${more}.`);
}

/** A lease's decisions, oldest first, a sentence each. */
export function explanation(decisions: readonly Decision[]): string {
  if (decisions.length === 0) return 'No decisions are kept for this lease.';
  return decisions.map((decision) => `${localTime(decision.atMs)}  ${sentenceOf(decision)}`).join('\n');
}

function sizes(inputs: Inputs, kind: 'requested' | 'granted' | 'held'): string {
  return `${cores(Number(inputs[`${kind}Millicores`]))} and ${size(Number(inputs[`${kind}MemoryBytes`]))}`;
}

function quantityOf(resource: string): (value: number) => string {
  const field = { cpu: 'cpu_millicores', memory: 'memory_bytes' }[resource] ?? 'net_rx_bytes_per_s';
  return FIELD_TEXT[field]?.show ?? String;
}

/** `committedMillicores` as `committed millicores`. */
function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
