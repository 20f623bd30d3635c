/** One member of an initramfs: a folder, a file or a symbolic link. Paths are relative, without a leading slash. */
export type CpioEntry =
  | { readonly kind: 'folder'; readonly path: string }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly content: Uint8Array;
      readonly executable: boolean;
    }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

const MODE = { folder: 0o040755, file: 0o100644, executable: 0o100755, link: 0o120777 } as const;

function padded(chunk: Uint8Array): Buffer {
  const buffer = Buffer.alloc(Math.ceil(chunk.length / 4) * 4);
  buffer.set(chunk);
  return buffer;
}

function member(inode: number, mode: number, path: string, content: Uint8Array): Buffer {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name])), padded(content)]);
}

/**
 * A cpio archive in the "newc" format, as the kernel reads it. Owner 0, time 0, so equal entries give equal bytes.
 * Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const members = entries.map((entry, index) => {
    if (entry.kind === 'folder') return member(index + 1, MODE.folder, entry.path, new Uint8Array());
    if (entry.kind === 'link') return member(index + 1, MODE.link, entry.path, Buffer.from(entry.target));
    return member(index + 1, entry.executable ? MODE.executable : MODE.file, entry.path, entry.content);
  });
  return Buffer.concat([...members, member(0, 0, 'TRAILER!!!', new Uint8Array())]);
}
