// Runs a model that `mlxc compile --target web` wrote, on WebGPU. Types and documentation are in mlxc.d.ts.

export { MlxcError } from './mlxc/error.js';
export { load } from './mlxc/model.js';
export { generate } from './mlxc/generate.js';
export { Sampler } from './mlxc/sampler.js';
export { Tokenizer } from './mlxc/tokenizer.js';
