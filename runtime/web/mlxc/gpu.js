// A WebGPU device: what it refuses becomes an error of ours.

import { MlxcError } from './error.js';

/** Offsets and sizes are multiples of this, and sizes at least this. */
const ALIGNMENT = 256;

/** The size of an allocation or a binding. */
export const padded = (bytes) => Math.max(Math.ceil(bytes / ALIGNMENT) * ALIGNMENT, ALIGNMENT);

/** Limits past WebGPU's defaults that a plan needs; each with the reason and the unit. */
function needs(plan) {
  const most = (items, amount) => {
    let best;
    for (const item of items) if (!best || amount(item) > amount(best)) best = item;
    return best && [best, amount(best)];
  };
  const out = [];
  const need = (found, limit, unit, what) => found && out.push({ limit, unit, what: what(found[0]), amount: found[1] });
  const kernel = (k) => `kernel \`${k.name}\``;
  const lanes = (k) => Math.max(...k.phases.map((p) => p.lanes));
  need(most(plan.kernels, lanes), 'maxComputeInvocationsPerWorkgroup', 'lanes of a group', kernel);
  need(most(plan.kernels, lanes), 'maxComputeWorkgroupSizeX', 'lanes of a group', kernel);
  need(most(plan.kernels, (k) => k.buffers.length), 'maxStorageBuffersPerShaderStage', 'buffers', kernel);
  const bindings = plan.entries.flatMap((e) => e.buffers.map((b) => ({ b, e })));
  const named = ({ b, e }) => `entry \`${e.name}\`, buffer \`${b.name}\``;
  need(most(bindings, ({ b }) => padded(b.bytes)), 'maxStorageBufferBindingSize', 'bytes', named);
  const arena = most(plan.entries, (e) => padded(e.arena.bytes));
  need(arena, 'maxBufferSize', 'bytes', (e) => `entry \`${e.name}\`, the arena`);
  const owned = [...plan.weights, ...plan.states];
  need(most(owned, (b) => padded(b.bytes)), 'maxBufferSize', 'bytes', (b) => `\`${b.name}\``);
  return out;
}

function nameOf(info) {
  const kind = [info?.vendor, info?.architecture].filter(Boolean).join(' ');
  return info?.description || info?.device || kind || 'a WebGPU adapter';
}

function check(limits, required, name) {
  for (const { limit, unit, what, amount } of required) {
    if (amount > limits[limit]) {
      throw new MlxcError('MLXC0718', `${name}: ${what} needs ${amount} ${unit}, the GPU allows ${limits[limit]} (${limit})`);
    }
  }
}

export class Gpu {
  /** Opens a device with what a plan needs, or takes the caller's. */
  static async open(plan, device) {
    const required = needs(plan);
    if (device) {
      const name = nameOf(device.adapterInfo);
      check(device.limits, required, name);
      return new Gpu(device, name);
    }
    if (!globalThis.navigator?.gpu) {
      throw new MlxcError('MLXC0717', 'expected a browser with WebGPU on a secure page (https or localhost), found none');
    }
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) throw new MlxcError('MLXC0717', 'expected a WebGPU adapter, found none');
    const name = nameOf(adapter.info);
    check(adapter.limits, required, name);
    const requiredLimits = {};
    // Few large buffers are better than many small ones; of all else no more than the plan needs.
    for (const limit of ['maxBufferSize', 'maxStorageBufferBindingSize']) requiredLimits[limit] = adapter.limits[limit];
    for (const { limit, amount } of required) {
      requiredLimits[limit] = Math.max(requiredLimits[limit] ?? 0, amount);
    }
    try {
      return new Gpu(await adapter.requestDevice({ requiredLimits }), name);
    } catch (e) {
      throw new MlxcError('MLXC0720', `${name}: opening the device failed: ${e.message}; load the package again`);
    }
  }

  constructor(device, name) {
    this.device = device;
    this.name = name;
    device.lost.then((info) => {
      this.lost = `the device was lost (${info.reason || 'unknown'}): ${info.message}`;
    });
  }

  /** Does something at once, without waiting in between, and then waits for what the device says of it. */
  async caught(doing, make) {
    this.present(doing);
    const filters = ['out-of-memory', 'validation', 'internal'];
    filters.forEach((f) => this.device.pushErrorScope(f));
    let made, thrown;
    try {
      made = make();
    } catch (e) {
      thrown = e;
    }
    // A lost device has no scopes left; that it is lost is what is reported.
    const errors = await Promise.all(filters.map(() => this.device.popErrorScope().catch(() => null)));
    this.present(doing);
    const error = errors.find(Boolean) ?? thrown;
    if (!error) return made;
    if (globalThis.GPUOutOfMemoryError && error instanceof GPUOutOfMemoryError) {
      throw new MlxcError('MLXC0719', `${this.name}: allocating memory while ${doing} failed: ${error.message}`);
    }
    throw this.failed(doing, error.message);
  }

  /** Refuses a device that was lost. */
  present(doing) {
    if (this.lost) throw this.failed(doing, this.lost);
  }

  failed(doing, reason) {
    const text = reason.replace(/\s*\n\s*/g, ' ').trim();
    return new MlxcError('MLXC0720', `${this.name}: ${doing} failed: ${text}; load the package again`);
  }

  /** A buffer of zeros. */
  buffer(bytes, usage) {
    return this.device.createBuffer({ size: padded(bytes), usage });
  }
}

/** Puts pieces `{ bytes, alone }` into as few buffers as the limit allows. One that is alone shares none. */
export function place(pieces, limit) {
  const sizes = [];
  let current = -1;
  const places = pieces.map(({ bytes, alone }) => {
    const size = padded(bytes);
    if (!alone && current >= 0 && sizes[current] + size <= limit) {
      const offset = sizes[current];
      sizes[current] += size;
      return { buffer: current, offset };
    }
    sizes.push(size);
    if (!alone) current = sizes.length - 1;
    return { buffer: sizes.length - 1, offset: 0 };
  });
  return { sizes, places };
}
