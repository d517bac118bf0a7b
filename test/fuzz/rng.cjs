// Random choices that depend on a seed and the number of the call alone, so that any one call can be made again.

/** Mulberry32 over a mixed seed. */
class Rng {
  constructor(seed, index) {
    this.state = mix(mix(seed >>> 0) ^ Math.imul(index + 1, 0x9e3779b1)) >>> 0;
  }

  /** A number in [0, 1). */
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, n). */
  int(n) {
    return Math.floor(this.next() * n);
  }

  chance(p) {
    return this.next() < p;
  }

  pick(list) {
    return list[this.int(list.length)];
  }

  times(n, make) {
    return Array.from({ length: n }, () => make());
  }
}

function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

module.exports = { Rng };
