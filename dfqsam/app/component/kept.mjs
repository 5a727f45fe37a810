// Pictures that this page was sent, by the hash of their content: Python sends each once, as long as it is kept here.
const MOST = 48; // more than Python counts on (sent.py), so that what it leaves out is here

export class Kept {
  constructor(make, most = MOST) {
    Object.assign(this, { make, most, found: new Map() });
  }
  /** What was made of the picture `key`, of `url` where it came along; null where it has to be asked for. */
  get(key, url) {
    const made = this.found.get(key) ?? (url ? this.make(url) : null);
    if (!made) return null;
    this.found.delete(key);
    this.found.set(key, made); // the latest last
    if (this.found.size > this.most) this.found.delete(this.found.keys().next().value);
    return made;
  }
}

/** An image that calls `then` once it can be drawn. */
export function loading(url) {
  const image = new Image();
  image.src = url;
  return image;
}

export function whenLoaded(image, then) {
  if (image.complete) then();
  else image.addEventListener("load", then, { once: true });
}
