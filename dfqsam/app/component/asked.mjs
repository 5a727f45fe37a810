// Which slice was asked for and has not come yet, so that the next step goes on from there however slow the answer is.
export class Asked {
  constructor() {
    Object.assign(this, { wanted: null, told: new Set(), shown: null });
  }
  /** The slice that is asked for, else the one that is shown. */
  get current() {
    return this.wanted ?? this.shown;
  }
  want(index) {
    this.wanted = index;
  }
  /** The slice to tell Python of now; null where there is nothing new to tell. */
  tell() {
    if (this.wanted === null || this.wanted === this.last) return null;
    if (this.wanted === this.shown && !this.told.size) {
      this.wanted = null;
      return null;
    }
    this.last = this.wanted;
    this.told.add(this.wanted);
    return this.wanted;
  }
  /** Slice `index` is shown now: the one that is wanted, one told of before it, or one that was chosen elsewhere. */
  seen(index) {
    const elsewhere = index !== this.shown && !this.told.has(index);
    this.shown = index;
    if (index === this.wanted || elsewhere) Object.assign(this, { wanted: null, told: new Set(), last: null });
  }
}
