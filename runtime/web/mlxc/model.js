// Loading: plan, shaders, weights.

import { MlxcError } from './error.js';
import { Gpu } from './gpu.js';
import { Session } from './session.js';
import { Tokenizer } from './tokenizer.js';
import { Weights } from './weights.js';

const FORMAT = 'mlxc-web';
const VERSION = 1;

async function get(url) {
  let response;
  try {
    response = await fetch(url);
  } catch (e) {
    throw new MlxcError('MLXC0715', `${url}: ${e.message}`);
  }
  if (!response.ok) throw new MlxcError('MLXC0715', `${url}: ${response.status} ${response.statusText}`.trim());
  return response;
}

async function manifest(url) {
  const response = await get(url);
  const found = await response.json().catch((e) => ({ format: e.message }));
  if (found.format !== FORMAT || found.version !== VERSION) {
    const what = `${found.format} ${found.version ?? ''}`.trim();
    throw new MlxcError('MLXC0604', `${url}: expected ${FORMAT} ${VERSION}, found ${what}`);
  }
  return found;
}

/** Loads the folder at a URL. */
export async function load(url, { device, onProgress = () => {} } = {}) {
  const folder = new URL(url, globalThis.location?.href);
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  const found = await manifest(new URL('plan.json', folder));
  const gpu = await Gpu.open(found.plan, device);
  try {
    const weights = await Weights.make(gpu, found.plan, found.weights);
    const total = found.weights.pieces.reduce((n, p) => n + p.bytes, 0);
    const told = (stage, all) => (loaded) => onProgress({ stage, loaded, total: all });
    const phases = found.plan.kernels.reduce((n, k) => n + k.phases.length, 0);
    const [pipelines] = await Promise.all([
      compile(gpu, found.plan, folder, told('shaders', phases)),
      weights.stream(folder, told('weights', total)),
    ]);
    return new Model(gpu, folder, found, pipelines, weights);
  } catch (e) {
    if (!device) gpu.device.destroy();
    throw e;
  }
}

/** By kernel: the layout of its bind groups, and the pipelines of its phases. */
async function compile(gpu, plan, folder, onProgress) {
  const known = new Map();
  let done = 0;
  const kernel = async (k) => {
    const readOnly = k.buffers.map((_, i) => k.constant[i] === true);
    const key = readOnly.join();
    if (!known.has(key)) known.set(key, layout(gpu, readOnly));
    const bindGroupLayout = known.get(key);
    const pipelineLayout = gpu.device.createPipelineLayout({ bindGroupLayouts: [bindGroupLayout] });
    const phase = async (p) => {
      const made = await pipeline(gpu, folder, p, pipelineLayout);
      onProgress((done += 1));
      return made;
    };
    return { layout: bindGroupLayout, phases: await Promise.all(k.phases.map(phase)) };
  };
  return Promise.all(plan.kernels.map(kernel));
}

/** Scalars, then buffers. */
function layout(gpu, readOnly) {
  const entry = (binding, type) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } });
  const storage = (r, i) => entry(1 + i, r ? 'read-only-storage' : 'storage');
  return gpu.device.createBindGroupLayout({ entries: [entry(0, 'uniform'), ...readOnly.map(storage)] });
}

async function pipeline(gpu, folder, { symbol }, pipelineLayout) {
  const code = await (await get(new URL(`shaders/${symbol}.wgsl`, folder))).text();
  // What is wrong with a module is told below, with its lines.
  gpu.device.pushErrorScope('validation');
  const module = gpu.device.createShaderModule({ label: symbol, code });
  const refused = gpu.device.popErrorScope().catch(() => null);
  try {
    const compute = { module, entryPoint: symbol };
    const made = await gpu.device.createComputePipelineAsync({ label: symbol, layout: pipelineLayout, compute });
    await refused;
    return made;
  } catch (e) {
    gpu.present('compiling shaders');
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter((m) => m.type === 'error').map((m) => `line ${m.lineNum}: ${m.message}`);
    const found = errors.join('; ') || e.message;
    throw new MlxcError('MLXC0703', `${gpu.name}: expected \`${symbol}\` to compile, found ${found}`);
  }
}

/** A model on a device, ready for sessions. */
class Model {
  constructor(gpu, folder, { plan, text, end_tokens: endTokens }, pipelines, weights) {
    this.gpu = gpu;
    this.folder = folder;
    this.plan = plan;
    this.text = text;
    this.endTokens = endTokens;
    this.pipelines = pipelines;
    this.weights = weights;
  }

  get adapter() {
    return this.gpu.name;
  }

  get device() {
    return this.gpu.device;
  }

  async session() {
    return Session.make(this);
  }

  async tokenizer() {
    const file = 'text/tokenizer.json';
    if (!this.text.includes(file)) {
      throw new MlxcError('MLXC0916', 'expected a tokenizer.json beside the weights, found none');
    }
    const response = await get(new URL(file, this.folder));
    const refuse = (e) => {
      throw new MlxcError('MLXC0751', `${file}: expected JSON, found ${e.message}`);
    };
    return new Tokenizer(await response.json().catch(refuse));
  }

  destroy() {
    this.gpu.device.destroy();
  }
}
