// A run of a model: its states and scratch on the device, and steps of one command buffer.

import { MlxcError, list } from './error.js';
import { padded, place } from './gpu.js';
import { Signature } from './signature.js';
import { evaluate } from './size.js';
import { byteLength, decode, encode } from './tensor.js';

/** Groups along one axis of a dispatch. */
const MAX_GROUPS = 65535;

/** The dispatch of a grid, whose last axis is x; none if it is empty. */
export function groups(linear, extents) {
  const total = extents.reduce((p, n) => p * Math.max(n, 0), 1);
  if (total === 0) return undefined;
  if (!linear) return [...[...extents].reverse(), 1, 1, 1].slice(0, 3);
  const x = Math.min(total, MAX_GROUPS);
  return [x, Math.ceil(total / x), 1];
}

/** Offsets of an entry's inputs or outputs in their buffer, where some launch names them, and the bytes of all. */
function pack(entry, ports, kind) {
  const sizes = ports.map(() => undefined);
  for (const b of entry.buffers) {
    const i = b.place[kind];
    if (i !== undefined) sizes[i] = Math.max(sizes[i] ?? 0, b.bytes);
  }
  let total = 0;
  const offsets = sizes.map((bytes) => {
    if (bytes === undefined) return undefined;
    total += padded(bytes);
    return total - padded(bytes);
  });
  return { offsets, total };
}

/** Scalars of an entry's launches, those that are equal once: a slot for each, a multiple of 256 bytes. */
function slots(entry, start) {
  const [known, all] = [new Map(), []];
  let end = start;
  const ofLaunch = entry.launches.map(({ scalars }) => {
    const key = JSON.stringify(scalars);
    if (!known.has(key)) {
      known.set(key, { at: end, sizes: scalars });
      all.push(known.get(key));
      end += padded(scalars.length * 4);
    }
    return known.get(key);
  });
  return { all, ofLaunch, start, end };
}

export class Session {
  static async make(model) {
    const session = new Session(model);
    await model.gpu.caught('making a session', () => session.allocate());
    return session;
  }

  constructor(model) {
    this.model = model;
    let scalarBytes = 0;
    this.entries = new Map();
    for (const entry of model.plan.entries) {
      const scalars = slots(entry, scalarBytes);
      scalarBytes = scalars.end;
      const inputs = pack(entry, entry.inputs, 'input');
      const outputs = pack(entry, entry.outputs, 'output');
      const prepared = { entry, signature: new Signature(entry), inputs, outputs, scalars, launches: [], values: null };
      this.entries.set(entry.name, prepared);
    }
    this.scalarBytes = scalarBytes;
    /** The step that runs now; the next one waits for it. */
    this.running = Promise.resolve();
  }

  /** Makes memory and bind groups. */
  allocate() {
    const { gpu, plan } = this.model;
    const { STORAGE, COPY_DST, COPY_SRC, UNIFORM, MAP_READ } = GPUBufferUsage;
    const all = [...this.entries.values()];
    const most = (bytes) => Math.max(0, ...all.map(bytes));
    const { sizes, places } = place(plan.states, gpu.device.limits.maxBufferSize);
    this.states = sizes.map((bytes) => gpu.buffer(bytes, STORAGE | COPY_DST));
    this.arena = gpu.buffer(most((e) => e.entry.arena.bytes), STORAGE);
    this.inputs = gpu.buffer(most((e) => e.inputs.total), STORAGE | COPY_DST);
    this.outputs = gpu.buffer(most((e) => e.outputs.total), STORAGE | COPY_SRC);
    this.scalars = gpu.buffer(this.scalarBytes, UNIFORM | COPY_DST);
    this.readback = gpu.buffer(most((e) => e.outputs.total), MAP_READ | COPY_DST);
    for (const prepared of all) {
      const { entry, scalars } = prepared;
      const at = ({ place: p }) => {
        if (p.weight !== undefined) return this.model.weights.places[p.weight];
        if (p.state !== undefined) return { buffer: this.states[places[p.state].buffer], offset: places[p.state].offset };
        if (p.input !== undefined) return { buffer: this.inputs, offset: prepared.inputs.offsets[p.input] };
        if (p.output !== undefined) return { buffer: this.outputs, offset: prepared.outputs.offsets[p.output] };
        return { buffer: this.arena, offset: p.arena.offset };
      };
      const binding = (binding, { buffer, offset }, bytes) => {
        return { binding, resource: { buffer, offset, size: padded(bytes) } };
      };
      prepared.launches = entry.launches.map((launch, l) => {
        const { layout, phases } = this.model.pipelines[launch.kernel];
        const slot = scalars.ofLaunch[l];
        const bound = launch.buffers.map((b, i) => binding(1 + i, at(entry.buffers[b]), entry.buffers[b].bytes));
        const first = binding(0, { buffer: this.scalars, offset: slot.at }, slot.sizes.length * 4);
        return {
          pipeline: phases[launch.phase],
          bindGroup: gpu.device.createBindGroup({ layout, entries: [first, ...bound] }),
          linear: plan.kernels[launch.kernel].phases[launch.phase].linear,
          grid: launch.grid,
          groups: undefined,
        };
      });
    }
  }

  run(name, inputs = {}) {
    return this.next(() => this.step(name, inputs));
  }

  /** Does something after all that was asked for before. */
  next(act) {
    const done = this.running.then(act);
    this.running = done.catch(() => {});
    return done;
  }

  async step(name, inputs) {
    const prepared = this.entries.get(name);
    if (!prepared) {
      const known = list([...this.entries.keys()]);
      throw new MlxcError('MLXC0705', `expected the name of an entry (${known}), found \`${name}\``);
    }
    const { entry, signature } = prepared;
    const { ordered, values } = signature.solve(inputs);
    const results = entry.outputs.map((port) => {
      const shape = signature.outputShape(port, values);
      return { port, shape, bytes: byteLength(port.dtype, shape) };
    });
    const read = await this.take(prepared, ordered, values, results);
    return Object.fromEntries(results.map(({ port, shape }, i) => {
      return [port.name, { data: decode(read[i], port.dtype), dtype: port.dtype, shape }];
    }));
  }

  /** Submits a step and gives the bytes of each output. */
  async take(prepared, ordered, values, results) {
    const { gpu } = this.model;
    const ends = results.map(({ bytes }, i) => (prepared.outputs.offsets[i] ?? 0) + bytes);
    const wanted = padded(Math.max(0, ...ends));
    let mapping;
    try {
      await gpu.caught('a step', () => {
        this.submit(prepared, ordered, values, results);
        mapping = this.readback.mapAsync(GPUMapMode.READ, 0, wanted);
        mapping.catch(() => {});
      });
      await mapping;
    } catch (e) {
      // The scalars may not have reached the device, and the next step needs the buffer unmapped.
      prepared.values = null;
      this.readback.unmap();
      throw e instanceof MlxcError ? e : gpu.failed('a step', gpu.lost ?? e.message);
    }
    const mapped = this.readback.getMappedRange(0, wanted);
    const read = results.map(({ bytes }, i) => {
      const at = prepared.outputs.offsets[i];
      // One that no launch writes has no elements.
      return at === undefined ? new Uint8Array(bytes) : new Uint8Array(mapped.slice(at, at + bytes));
    });
    this.readback.unmap();
    return read;
  }

  submit(prepared, ordered, values, results) {
    const { device } = this.model.gpu;
    this.setUp(prepared, values);
    prepared.entry.inputs.forEach((port, i) => {
      const at = prepared.inputs.offsets[i];
      if (at !== undefined) device.queue.writeBuffer(this.inputs, at, encode(ordered[i].data, port.dtype));
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, bindGroup, groups } of prepared.launches) {
      if (!groups) continue;
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(...groups);
    }
    pass.end();
    results.forEach(({ bytes }, i) => {
      const at = prepared.outputs.offsets[i];
      if (at !== undefined && bytes > 0) {
        encoder.copyBufferToBuffer(this.outputs, at, this.readback, at, Math.ceil(bytes / 4) * 4);
      }
    });
    device.queue.submit([encoder.finish()]);
  }

  /** Fills in what depends on the symbols. */
  setUp(prepared, values) {
    if (prepared.values?.every((v, i) => v === values[i])) return;
    const { all, start, end } = prepared.scalars;
    const words = new Uint32Array((end - start) / 4);
    // The low word is what a u32 and an i32 scalar hold; the compiler bounds both.
    for (const { at, sizes } of all) words.set(sizes.map((s) => evaluate(s, values) >>> 0), (at - start) / 4);
    this.model.gpu.device.queue.writeBuffer(this.scalars, start, words);
    for (const launch of prepared.launches) {
      launch.groups = groups(launch.linear, launch.grid.map((s) => evaluate(s, values)));
    }
    prepared.values = values;
  }

  reset() {
    const { gpu } = this.model;
    const clear = () => {
      const encoder = gpu.device.createCommandEncoder();
      this.states.forEach((buffer) => encoder.clearBuffer(buffer));
      gpu.device.queue.submit([encoder.finish()]);
    };
    return this.next(() => gpu.caught('resetting a session', clear));
  }

  destroy() {
    const own = [this.arena, this.inputs, this.outputs, this.scalars, this.readback, ...this.states];
    own.forEach((buffer) => buffer.destroy());
  }
}
