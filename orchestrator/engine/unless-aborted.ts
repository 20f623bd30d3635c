/** Resolves when `work` does or the signal aborts, whichever is first, and leaves nothing on the signal; rejects as `work` does. */
export function unlessAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const done = (): void => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    signal.addEventListener('abort', done);
    work.then(done, (cause: unknown) => {
      signal.removeEventListener('abort', done);
      reject(cause);
    });
  });
}
