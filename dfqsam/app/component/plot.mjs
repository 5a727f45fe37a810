// Pure arithmetic of the chart: where a slice and a value lie, which lines are named, which slice is meant by a click.

/** Places on the screen: `x` of a slice and `y` of a value, in a frame that shows first..last and low..high. */
export function plot(frame, { first, last }, low, high) {
  const across = last > first ? frame.width / (last - first) : 0;
  const up = high > low ? frame.height / (high - low) : 0;
  return {
    x: (k) => (across ? frame.x + (k - first) * across : frame.x + frame.width / 2),
    y: (value) => frame.y + frame.height - (Math.min(Math.max(value, low), high) - low) * up,
  };
}

/** Round numbers in low..high, with at most `most` steps between them. */
export function ticks(low, high, most = 3) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => (high - low) / size <= most + 1e-9);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

/** Of `slices`, the one nearest to a place on the screen. */
export function nearest(slices, frame, span, at) {
  const { x } = plot(frame, span, 0, 1);
  return slices.reduce((best, k) => (Math.abs(x(k) - at) < Math.abs(x(best) - at) ? k : best), slices[0]);
}
