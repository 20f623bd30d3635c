import { InvalidArgumentError } from 'commander';

/** `sets/web,sets/batch` as folders. @throws {InvalidArgumentError} */
export function parseFolders(text: string): string[] {
  const folders = text.split(',').map((folder) => folder.trim());
  if (folders.includes('')) throw new InvalidArgumentError('It is a list of folders, by commas.');
  return folders;
}
