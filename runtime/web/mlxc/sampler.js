// Choosing the next token from logits, as the native runtime does: equal options and logits give equal tokens.

import { MlxcError } from './error.js';

const MASK = (1n << 64n) - 1n;
const rotate = (x, n) => ((x << n) | (x >> (64n - n))) & MASK;

/**
 * xoshiro256++ 1.0 (Blackman and Vigna, https://prng.di.unimi.it), its state filled from the seed by splitmix64.
 */
class Random {
  constructor(seed) {
    let x = BigInt(seed) & MASK;
    this.state = Array.from({ length: 4 }, () => {
      x = (x + 0x9e3779b97f4a7c15n) & MASK;
      let z = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
      z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
      return z ^ (z >> 31n);
    });
  }

  bits() {
    const s = this.state;
    const out = (rotate((s[0] + s[3]) & MASK, 23n) + s[0]) & MASK;
    const t = (s[1] << 17n) & MASK;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45n);
    return out;
  }

  /** The next number in 0..1, a multiple of 2⁻⁵³. */
  unit() {
    return Number(this.bits() >> 11n) / 2 ** 53;
  }
}

export class Sampler {
  constructor({ temperature = 0, topP = 1, seed = 0 } = {}) {
    const check = (option, value, expected, ok) => {
      if (!ok) throw new MlxcError('MLXC0756', `expected ${option} to be ${expected}, found ${value}`);
    };
    const finite = Number.isFinite(temperature) && temperature >= 0;
    check('temperature', temperature, 'a finite number of at least 0', finite);
    check('topP', topP, 'a number above 0 and at most 1', topP > 0 && topP <= 1);
    check('seed', seed, 'a whole number of at least 0', typeof seed === 'bigint' || (Number.isSafeInteger(seed) && seed >= 0));
    // Those of the native runtime are f32.
    this.temperature = Math.fround(temperature);
    this.topP = Math.fround(topP);
    this.random = new Random(seed);
  }

  /** Chooses a token. Temperature 0 takes the largest logit, the lowest id on ties. */
  sample(logits) {
    const [best, largest] = argmax(logits);
    if (this.temperature === 0) return best;
    const weights = Float64Array.from(logits, (l) => Math.exp((l - largest) / this.temperature));
    const total = weights.reduce((a, b) => a + b, 0);
    const ids = Uint32Array.from(logits, (_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
    let [kept, reached] = [0, 0];
    while (kept < ids.length && (kept === 0 || reached < this.topP * total)) reached += weights[ids[kept++]];
    let left = this.random.unit() * reached;
    for (let i = 0; i < kept; i += 1) {
      left -= weights[ids[i]];
      if (left < 0) return ids[i];
    }
    // Rounding may leave a little; the last one that has any weight takes it.
    while (kept > 1 && weights[ids[kept - 1]] === 0) kept -= 1;
    return ids[kept - 1];
  }
}

function argmax(logits) {
  let [best, largest] = [0, -Infinity];
  for (let i = 0; i < logits.length; i += 1) {
    if (Number.isNaN(logits[i])) throw new MlxcError('MLXC0757', `expected logits to choose from, found NaN for token ${i}`);
    if (logits[i] > largest) [best, largest] = [i, logits[i]];
  }
  if (Number.isFinite(largest)) return [best, largest];
  throw new MlxcError('MLXC0757', `expected logits to choose from, found ${largest} among ${logits.length} logits`);
}
