/** One element. `text` is its own character data, entities resolved, children's text left out. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  readonly text: string;
}

/** The text is not the XML this reader accepts. `offset` counts UTF-16 units from its start. */
export class XmlError extends Error {
  override readonly name = 'XmlError';
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(`${message} at offset ${offset}`);
    this.offset = offset;
  }
}

/** Longest document read. A libvirt domain is 5 to 40 KiB; its own XML-RPC limit for strings is 4 MiB. */
export const XML_CHARS_MAX = 4 * 1024 * 1024;
/** Deepest nesting read. libvirt's domain schema stays below 12. */
export const XML_DEPTH_MAX = 64;

const NAMED_ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const NAME = /[A-Za-z_:][\w.:-]*/y;
const SPACE = /[ \t\r\n]*/y;
const NAME_START = /[A-Za-z_:]/;

/** Escape text for use between tags or in a quoted attribute value. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>'"]/g, (char) => {
    if (char === '&') return '&amp;';
    if (char === '<') return '&lt;';
    if (char === '>') return '&gt;';
    return char === "'" ? '&apos;' : '&quot;';
  });
}

/** Text of an element and all below it, as parseXml would read it again. */
export function writeXml(element: XmlElement): string {
  const attributes = Object.entries(element.attributes)
    .map(([name, value]) => ` ${name}='${escapeXml(value)}'`)
    .join('');
  const inner = element.children.map(writeXml).join('') + escapeXml(element.text.trim());
  return inner === ''
    ? `<${element.name}${attributes}/>`
    : `<${element.name}${attributes}>${inner}</${element.name}>`;
}

/**
 * Read one document of the XML that libvirt writes: elements, attributes, text, comments, CDATA and the XML
 * declaration. A document type, an entity beyond the five named and the numeric ones, or anything not well formed is
 * refused.
 * @throws {XmlError}
 */
export function parseXml(source: string): XmlElement {
  if (source.length > XML_CHARS_MAX) throw new XmlError(`longer than ${XML_CHARS_MAX} characters`, 0);
  return new Reader(source).document();
}

interface OpenElement {
  readonly name: string;
  readonly attributes: Record<string, string>;
  readonly children: XmlElement[];
  text: string;
}

class Reader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  document(): XmlElement {
    this.#skipProlog();
    const root = this.#tree();
    this.#skipProlog();
    if (this.#at < this.#source.length) throw this.#error('text after the root element');
    return root;
  }

  #tree(): XmlElement {
    const open: OpenElement[] = [];
    for (;;) {
      const parent = open.at(-1);
      if (this.#at >= this.#source.length) {
        throw this.#error(parent === undefined ? 'root element expected' : `<${parent.name}> is not closed`);
      }
      if (parent !== undefined && !this.#starts('<')) {
        parent.text += this.#resolve(this.#until('<'));
        continue;
      }
      if (this.#starts('<!--')) {
        this.#skipPast('-->', 'comment');
        continue;
      }
      if (parent !== undefined && this.#starts('<![CDATA[')) {
        parent.text += this.#cdata();
        continue;
      }
      const closed = this.#starts('</') ? this.#closeTag(open) : this.#openTag(open);
      if (closed === undefined) continue;
      const above = open.at(-1);
      if (above === undefined) return closed;
      above.children.push(closed);
    }
  }

  /** Read a start tag: pushed on `open`, or returned when it is empty. */
  #openTag(open: OpenElement[]): XmlElement | undefined {
    this.#expect('<');
    if (!NAME_START.test(this.#source[this.#at] ?? '')) throw this.#error('element name expected');
    if (open.length >= XML_DEPTH_MAX) throw this.#error(`nested deeper than ${XML_DEPTH_MAX}`);
    const name = this.#match(NAME);
    const attributes: Record<string, string> = Object.create(null);
    for (;;) {
      const spaces = this.#match(SPACE);
      if (this.#starts('/>')) {
        this.#at += 2;
        return { name, attributes, children: [], text: '' };
      }
      if (this.#starts('>')) {
        this.#at += 1;
        open.push({ name, attributes, children: [], text: '' });
        return undefined;
      }
      if (spaces === '') throw this.#error('space expected before an attribute');
      this.#attribute(attributes);
    }
  }

  #attribute(attributes: Record<string, string>): void {
    const name = this.#match(NAME);
    if (name === '') throw this.#error('attribute name expected');
    if (name in attributes) throw this.#error(`attribute ${name} given twice`);
    this.#match(SPACE);
    this.#expect('=');
    this.#match(SPACE);
    const quote = this.#source[this.#at];
    if (quote !== '"' && quote !== "'") throw this.#error('quoted attribute value expected');
    this.#at += 1;
    const raw = this.#until(quote);
    if (raw.includes('<')) throw this.#error('"<" inside an attribute value');
    this.#expect(quote);
    attributes[name] = this.#resolve(raw);
  }

  #closeTag(open: OpenElement[]): XmlElement {
    this.#expect('</');
    const name = this.#match(NAME);
    this.#match(SPACE);
    this.#expect('>');
    const element = open.pop();
    if (element === undefined || element.name !== name) throw this.#error(`</${name}> closes nothing open`);
    return element;
  }

  #cdata(): string {
    const start = this.#at + '<![CDATA['.length;
    this.#skipPast(']]>', 'CDATA section');
    return this.#source.slice(start, this.#at - ']]>'.length);
  }

  #skipProlog(): void {
    for (;;) {
      this.#match(SPACE);
      if (this.#starts('<?')) this.#skipPast('?>', 'processing instruction');
      else if (this.#starts('<!--')) this.#skipPast('-->', 'comment');
      else return;
    }
  }

  #resolve(raw: string): string {
    if (!raw.includes('&')) return raw;
    return raw.replace(/&([^;&]{0,32};?)/g, (_, entity: string) => {
      const name = entity.endsWith(';') ? entity.slice(0, -1) : '';
      const named = Object.hasOwn(NAMED_ENTITIES, name) ? NAMED_ENTITIES[name] : undefined;
      return named ?? this.#numericEntity(name);
    });
  }

  #numericEntity(name: string): string {
    const match = /^#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}))$/.exec(name);
    const code = match ? Number.parseInt(match[1] ?? match[2] ?? '', match[1] ? 16 : 10) : Number.NaN;
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    if (!(code > 0 && code <= 0x10ffff) || isSurrogate) throw this.#error('unknown entity');
    return String.fromCodePoint(code);
  }

  #starts(text: string): boolean {
    return this.#source.startsWith(text, this.#at);
  }

  #expect(text: string): void {
    if (!this.#starts(text)) throw this.#error(`"${text}" expected`);
    this.#at += text.length;
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }

  #until(text: string): string {
    const end = this.#source.indexOf(text, this.#at);
    if (end < 0) throw this.#error(`"${text}" expected before the end`);
    const slice = this.#source.slice(this.#at, end);
    this.#at = end;
    return slice;
  }

  #skipPast(text: string, what: string): void {
    const end = this.#source.indexOf(text, this.#at);
    if (end < 0) throw this.#error(`${what} is not closed`);
    this.#at = end + text.length;
  }

  #error(message: string): XmlError {
    return new XmlError(message, this.#at);
  }
}
