/**
 * Do `work` with a signal that aborts after so many ms. The timer ends with the work: one that fires for nothing costs as
 * much as a call.
 */
export async function within<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ms);
  timer.unref();
  try {
    return await work(abort.signal);
  } finally {
    clearTimeout(timer);
  }
}
