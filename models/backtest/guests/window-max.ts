/** Running maximum over the last `window` values, the newest included. @param out f64[n], filled */
export function windowMax(values: Float64Array, window: number, out: Float64Array): void {
  // A queue of places whose values fall: its head is the maximum.
  const queue = new Int32Array(values.length);
  let head = 0;
  let tail = 0;
  for (const [place, value] of values.entries()) {
    while (tail > head && (values[queue[tail - 1] as number] as number) <= value) tail -= 1;
    queue[tail++] = place;
    if ((queue[head] as number) <= place - window) head += 1;
    out[place] = values[queue[head] as number] as number;
  }
}
