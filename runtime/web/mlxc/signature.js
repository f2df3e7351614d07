// What an entry takes: finds the symbols' values in its inputs and refuses inputs that do not fit.

import { MlxcError, list } from './error.js';
import { asSymbol, display, evaluate, isConstant } from './size.js';
import { given } from './tensor.js';

export class Signature {
  constructor(entry) {
    this.entry = entry;
    this.names = entry.symbols.map((s) => s.name);
    this.sources = entry.symbols.map((symbol, i) => {
      if (symbol.kind === 'scalar') return { input: entry.inputs.findIndex((p) => p.name === symbol.name) };
      const has = (p) => p.shape.some((s) => asSymbol(s) === i);
      const input = entry.inputs.findIndex(has);
      return { input, axis: entry.inputs[input].shape.findIndex((s) => asSymbol(s) === i) };
    });
  }

  /** The inputs in order, as `{ data, shape }`, and the symbols' values. */
  solve(inputs) {
    const { entry } = this;
    for (const name of Object.keys(inputs)) {
      if (!entry.inputs.some((p) => p.name === name)) {
        const known = list(entry.inputs.map((p) => p.name));
        throw new MlxcError('MLXC0705', `expected the name of an input (${known}), found \`${name}\``);
      }
    }
    const ordered = entry.inputs.map((port, i) => {
      if (inputs[port.name] === undefined) {
        const message = `entry \`${entry.name}\`: expected input \`${port.name}\` once, found it 0 times`;
        throw new MlxcError('MLXC0706', message);
      }
      const tensor = given(inputs[port.name], this.at(i), port.dtype);
      if (tensor.shape.length !== port.shape.length) throw this.shapeError(i, tensor.shape);
      return tensor;
    });
    const values = entry.symbols.map((symbol, i) => this.value(symbol, this.sources[i], ordered));
    entry.inputs.forEach((port, i) => {
      const fits = port.shape.every((size, axis) => evaluate(size, values) === ordered[i].shape[axis]);
      if (!fits) throw this.shapeError(i, ordered[i].shape, values);
    });
    for (const condition of entry.requires) {
      const found = evaluate(condition, values);
      if (found < 0) {
        const expected = `${display(condition, this.names)} to be at least 0`;
        const having = this.names.map((n, i) => `${n} = ${values[i]}`).join(', ');
        throw new MlxcError('MLXC0712', `entry \`${entry.name}\`: expected ${expected}, found ${found} with ${having}`);
      }
    }
    return { ordered, values };
  }

  value(symbol, { input, axis }, ordered) {
    const found = axis === undefined ? ordered[input].data[0] : ordered[input].shape[axis];
    const { lo, hi } = symbol.range;
    const expected = `${this.at(input)}: expected \`${symbol.name}\``;
    if (found < lo || found > hi) throw new MlxcError('MLXC0710', `${expected} in ${lo}..=${hi}, found ${found}`);
    if (found % symbol.multiple !== 0) {
      throw new MlxcError('MLXC0711', `${expected} to be a multiple of ${symbol.multiple}, found ${found}`);
    }
    return found;
  }

  /** The shape of an output. */
  outputShape(port, values) {
    return port.shape.map((size) => {
      const extent = evaluate(size, values);
      if (extent >= 0) return extent;
      const expected = `an extent of output \`${port.name}\` to be at least 0`;
      throw new MlxcError('MLXC0712', `entry \`${this.entry.name}\`: expected ${expected}, found ${extent}`);
    });
  }

  at(input) {
    return `entry \`${this.entry.name}\`, input \`${this.entry.inputs[input].name}\``;
  }

  shapeError(input, found, values) {
    const extent = (size) => {
      const text = display(size, this.names);
      return values && !isConstant(size) ? `${text} = ${evaluate(size, values)}` : text;
    };
    const expected = this.entry.inputs[input].shape.map(extent).join(', ');
    return new MlxcError('MLXC0709', `${this.at(input)}: expected shape [${expected}], found [${found.join(', ')}]`);
  }
}
