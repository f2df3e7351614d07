// Weights, streamed from the server's pieces straight into GPU buffers.

import { MlxcError } from './error.js';
import { padded, place } from './gpu.js';

/** Bytes handed to the queue at once; a multiple of every member's alignment. */
const BLOCK_BYTES = 1 << 20;
/** Bytes on their way to the device after which reading waits. */
const IN_FLIGHT_BYTES = 64 << 20;
/** Attempts of one request that bring nothing before the load fails. */
const ATTEMPTS = 4;

/** Weights that some launch binds as if it could be stored to. A buffer may not be bound both ways in one dispatch. */
function storedTo(plan) {
  const out = new Set();
  for (const entry of plan.entries) {
    for (const launch of entry.launches) {
      launch.buffers.forEach((b, i) => {
        const { weight } = entry.buffers[b].place;
        if (weight !== undefined && !plan.kernels[launch.kernel].constant[i]) out.add(plan.weights[weight].member);
      });
    }
  }
  return out;
}

export class Weights {
  /** Makes the buffers. */
  static async make(gpu, plan, index) {
    const alone = storedTo(plan);
    const pieces = index.members.map((m) => ({ bytes: m.bytes, alone: alone.has(m.name) }));
    const { sizes, places } = place(pieces, gpu.device.limits.maxBufferSize);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const make = () => sizes.map((bytes) => gpu.buffer(bytes, usage));
    const buffers = await gpu.caught('making buffers for weights', make);
    return new Weights(gpu, plan, index, buffers, places);
  }

  constructor(gpu, plan, index, buffers, places) {
    this.gpu = gpu;
    this.index = index;
    this.buffers = buffers;
    const at = (place) => ({ buffer: buffers[place.buffer], offset: place.offset });
    this.members = index.members.map((m, i) => ({ start: m.offset, end: m.offset + padded(m.bytes), ...at(places[i]) }));
    const byName = new Map(index.members.map((m, i) => [m.name, this.members[i]]));
    /** By weight of the plan: its buffer and offset. */
    this.places = plan.weights.map((w) => byName.get(w.member));
  }

  /** Fetches all pieces, one after the other, and uploads them as they come. */
  async stream(base, onProgress) {
    const block = new Uint8Array(BLOCK_BYTES);
    let [filled, at, member, inFlight] = [0, 0, 0, 0];
    const flush = async () => {
      let done = 0;
      while (done < filled) {
        const { start, end, buffer, offset } = this.members[member];
        const bytes = Math.min(filled - done, end - at);
        this.gpu.device.queue.writeBuffer(buffer, offset + at - start, block, done, bytes);
        done += bytes;
        at += bytes;
        if (at === end) member += 1;
      }
      inFlight += filled;
      filled = 0;
      onProgress(at);
      if (inFlight < IN_FLIGHT_BYTES) return;
      await this.gpu.device.queue.onSubmittedWorkDone().catch(() => {});
      this.gpu.present('uploading weights');
      inFlight = 0;
    };
    for (const piece of this.index.pieces) {
      for await (let chunk of chunks(new URL(piece.file, base), piece.bytes)) {
        while (chunk.length > 0) {
          const bytes = Math.min(chunk.length, block.length - filled);
          block.set(chunk.subarray(0, bytes), filled);
          chunk = chunk.subarray(bytes);
          filled += bytes;
          if (filled === block.length) await flush();
        }
      }
    }
    await flush();
    this.gpu.present('uploading weights');
  }
}

/** The bytes of a file as they come. A connection that breaks goes on where it broke. */
export async function* chunks(url, bytes) {
  let [at, attempts] = [0, 0];
  const refuse = (found) => new MlxcError('MLXC0715', `${url}: expected ${bytes} bytes, found ${found}`);
  while (at < bytes) {
    let reader;
    let failure = `${at} bytes`;
    try {
      const response = await fetch(url, at > 0 ? { headers: { Range: `bytes=${at}-` } } : {});
      if (!response.ok) throw refuse(`${response.status} ${response.statusText}`.trim());
      // A server that knows no ranges begins anew.
      let skip = response.status === 206 ? 0 : at;
      reader = response.body.getReader();
      for (let r = await reader.read(); !r.done; r = await reader.read()) {
        const fresh = r.value.subarray(Math.min(skip, r.value.length));
        skip -= r.value.length - fresh.length;
        if (fresh.length === 0) continue;
        at += fresh.length;
        if (at > bytes) throw refuse('more');
        attempts = 0;
        yield fresh;
      }
    } catch (e) {
      if (e instanceof MlxcError) throw e;
      failure = `${at} bytes (${e.message})`;
    } finally {
      // Also where the caller stops listening.
      reader?.cancel().catch(() => {});
    }
    if (at < bytes && ++attempts === ATTEMPTS) throw refuse(failure);
  }
}
