/** Runs a model that `mlxc compile --target web` wrote, on WebGPU. */

/** An error with a stable id. The ids are those of the native runtime and are listed in the book. */
export class MlxcError extends Error {
  /** Such as `MLXC0708`. */
  readonly id: string;
}

/** How far a load is: bytes of weights, or shaders. */
export interface Progress {
  stage: 'weights' | 'shaders';
  loaded: number;
  total: number;
}

export interface LoadOptions {
  /** A device to run on, with limits that the model fits; by default one is opened. */
  device?: GPUDevice;
  onProgress?: (progress: Progress) => void;
}

/**
 * Loads the folder at a URL, relative to the page. Shaders compile while weights stream into GPU memory; a connection that
 * breaks goes on where it broke.
 *
 * Rejects with MLXC0604 (another format), 0703 (a shader does not compile), 0715 (a file cannot be fetched), 0717 (no WebGPU or no
 * adapter), 0718 (a limit of the adapter is too small), 0719 (no GPU memory) or 0720 (the device failed or was lost).
 */
export function load(url: string | URL, options?: LoadOptions): Promise<Model>;

/** A model on a device. */
export interface Model {
  /** The adapter's name. */
  readonly adapter: string;
  readonly device: GPUDevice;
  /** Ids of tokens that end a text. */
  readonly endTokens: readonly number[];
  /** A run of the model with states of its own, zero at first. Rejects with 0719 or 0720. */
  session(): Promise<Session>;
  /** The model's tokenizer. Rejects with 0715, 0751 (one of another kind) or 0916 (it has none). */
  tokenizer(): Promise<Tokenizer>;
  /** Gives the device back, also if it was the caller's. */
  destroy(): void;
}

export type TensorData =
  | Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

/**
 * An input: an array with a shape, an array of rank 1, or a number of rank 0. The array's type is the dtype's own: Float32Array
 * for f32, f16 and bf16 (rounded to nearest), Uint8Array for u8 and bool.
 */
export type Input = { data: TensorData; shape?: readonly number[] } | TensorData | number;

/** An output, row-major; f16 and bf16 are widened to f32. */
export interface Output {
  data: TensorData;
  dtype: 'bool' | 'u8' | 'i8' | 'u16' | 'i16' | 'f16' | 'bf16' | 'u32' | 'i32' | 'f32';
  shape: number[];
}

/** States stay on the device from step to step. Steps of one session run one after the other, in the order of the calls. */
export interface Session {
  readonly model: Model;
  /**
   * Runs an entry. A refused step changes nothing.
   *
   * Rejects with 0705 (unknown name), 0706 (an input is missing), 0708 (dtype), 0709 (shape), 0710 to 0712 (an extent or a scalar out
   * of its bounds), 0713 (data of another length) or 0720.
   */
  run(entry: string, inputs?: Record<string, Input>): Promise<Record<string, Output>>;
  /** Makes all states zero. */
  reset(): Promise<void>;
  /** Frees its GPU memory. */
  destroy(): void;
}

/** A byte-level BPE tokenizer, as of GPT-2, Llama 3 and Qwen. */
export class Tokenizer {
  /** From the content of a tokenizer.json. Throws 0751, with the name of what it does not know. */
  constructor(json: object);
  /** Tokens in the vocabulary, added ones included. */
  readonly vocabularySize: number;
  tokenId(token: string): number | undefined;
  /** Tokens of a text, by default with those the tokenizer puts around it. Throws 0752. */
  encode(text: string, options?: { special?: boolean }): number[];
  /** Text of tokens, by default without special ones. Bytes that are no UTF-8 become U+FFFD. Throws 0752. */
  decode(tokens: Iterable<number>, options?: { special?: boolean }): string;
  /** Decodes tokens as they come; no piece ends within a character. */
  stream(options?: { special?: boolean }): { push(token: number): string; finish(): string };
}

export interface SamplerOptions {
  /** Logits are divided by it; 0, the default, takes the largest. */
  temperature?: number;
  /** Keeps the fewest most likely tokens that reach this probability together; 1, the default, keeps all. */
  topP?: number;
  /** Seed of the random numbers; 0 by default. */
  seed?: number | bigint;
}

/** Chooses tokens as the native runtime does: equal options and logits give equal tokens. */
export class Sampler {
  /** Throws 0756 for an option out of range. */
  constructor(options?: SamplerOptions);
  /** Throws 0757 if no logit is finite or one is NaN. */
  sample(logits: ArrayLike<number>): number;
}

export interface GenerateOptions extends SamplerOptions {
  /** Most tokens to write; 128 by default. */
  maxTokens?: number;
  /** Told each piece of text with its token; a last piece without one may follow. */
  onToken?: (text: string, token?: number) => void;
  /** Writes on past tokens that end a text. */
  ignoreEos?: boolean;
  /** Stops with the signal's reason. */
  signal?: AbortSignal;
}

export interface Generated {
  text: string;
  /** Tokens written, without one that ended the text. */
  tokens: number[];
  promptTokens: number[];
  /** `eos`, or `length` for the most tokens or a full context. */
  reason: 'eos' | 'length';
  prefillSeconds: number;
  decodeSeconds: number;
}

/**
 * Continues a prompt, given as text or tokens, from the start of the context. Rejects as `Session.run` does, with 0710 for a prompt that is
 * empty or longer than the context, or 0916 if the model is no text model.
 */
export function generate(
  session: Session,
  tokenizer: Tokenizer,
  prompt: string | Iterable<number>,
  options?: GenerateOptions,
): Promise<Generated>;
