// Between the caller's typed arrays and the bytes that kernels read and write.

import { MlxcError } from './error.js';

/** By dtype: bytes of an element, and the array that callers use. */
const DTYPES = {
  bool: [1, Uint8Array],
  u8: [1, Uint8Array],
  i8: [1, Int8Array],
  u16: [2, Uint16Array],
  i16: [2, Int16Array],
  f16: [2, Float32Array],
  bf16: [2, Float32Array],
  u32: [4, Uint32Array],
  i32: [4, Int32Array],
  f32: [4, Float32Array],
};

export const count = (shape) => shape.reduce((p, n) => p * n, 1);

/** Bytes of a tensor. */
export const byteLength = (dtype, shape) => count(shape) * DTYPES[dtype][0];

/** What a caller gave, as `{ data, shape }`: numbers have rank 0, plain arrays rank 1. */
export function given(value, at, dtype) {
  const type = DTYPES[dtype]?.[1];
  if (!type) throw new MlxcError('MLXC0708', `${at}: expected a dtype that browsers have, found ${dtype}`);
  if (typeof value === 'number') return { data: type.of(value), shape: [] };
  const data = value?.data ?? value;
  if (!(data instanceof type)) {
    const found = data?.constructor?.name ?? String(data);
    throw new MlxcError('MLXC0708', `${at}: expected ${dtype} in a ${type.name}, found ${found}`);
  }
  const shape = value.shape ?? [data.length];
  if (count(shape) !== data.length) {
    const expected = `${count(shape)} elements for shape [${shape.join(', ')}]`;
    throw new MlxcError('MLXC0713', `${at}: expected ${expected}, found ${data.length}`);
  }
  return { data, shape };
}

/** The bytes that kernels read, as whole words: what is missing of the last one is zero. */
export function encode(data, dtype) {
  let elements = data;
  if (dtype === 'bf16' || dtype === 'f16') elements = Uint16Array.from(data, dtype === 'bf16' ? toBf16 : toF16);
  const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
  if (bytes.length % 4 === 0) return bytes;
  const words = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  words.set(bytes);
  return words;
}

/** A tensor for the caller, from the bytes that kernels wrote. */
export function decode(bytes, dtype) {
  const copy = bytes.slice().buffer;
  if (dtype === 'bf16') return Float32Array.from(new Uint16Array(copy), fromBf16);
  if (dtype === 'f16') return Float32Array.from(new Uint16Array(copy), fromF16);
  return new DTYPES[dtype][1](copy);
}

const scratch = new DataView(new ArrayBuffer(4));

function bitsOf(value) {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function ofBits(bits) {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

// To nearest, ties to even, as the native runtime rounds.

export function toBf16(value) {
  const bits = bitsOf(value);
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

export const fromBf16 = (bits) => ofBits((bits << 16) >>> 0);

export function toF16(value) {
  const sign = (bitsOf(value) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  // Elements of this binade are whole multiples of its unit; a product with a power of two is exact.
  const units = roundToEven(size * 2 ** (10 - exponent));
  return sign + (size === 0 ? 0 : (exponent + 14) * 1024 + units);
}

function roundToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

export function fromF16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >>> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
