// Writing text with a language model: the prompt in chunks, then token by token.

import { MlxcError, list } from './error.js';
import { Sampler } from './sampler.js';

/** The entry of a language model that processes a prompt, and what it allows. */
function limits(plan) {
  for (const name of ['prefill', 'decode']) {
    if (!plan.entries.some((e) => e.name === name)) {
      const found = list(plan.entries.map((e) => e.name));
      throw new MlxcError('MLXC0916', `expected a text model with an entry \`${name}\`, found ${found}`);
    }
  }
  const { symbols } = plan.entries.find((e) => e.name === 'prefill');
  const most = (name) => {
    const symbol = symbols.find((s) => s.name === name);
    if (!symbol) throw new MlxcError('MLXC0916', `expected a symbol \`${name}\` of entry \`prefill\`, found none`);
    return symbol.range.hi;
  };
  return { chunk: most('S'), context: most('position') + 1 };
}

export async function generate(session, tokenizer, prompt, options = {}) {
  const { maxTokens = 128, onToken = () => {}, ignoreEos = false, signal, ...sampling } = options;
  const sampler = new Sampler(sampling);
  const { chunk, context } = limits(session.model.plan);
  const end = new Set(ignoreEos ? [] : session.model.endTokens);
  const promptTokens = typeof prompt === 'string' ? tokenizer.encode(prompt) : [...prompt];
  if (promptTokens.length === 0 || promptTokens.length > context) {
    const expected = `a prompt of 1..=${context} tokens`;
    throw new MlxcError('MLXC0710', `expected ${expected}, found ${promptTokens.length}`);
  }
  const start = performance.now();
  let logits;
  for (let at = 0; at < promptTokens.length; at += chunk) {
    signal?.throwIfAborted();
    const tokens = Int32Array.from(promptTokens.slice(at, at + chunk));
    ({ logits } = await session.run('prefill', { tokens, position: at }));
  }
  const prefilled = performance.now();
  const [tokens, stream] = [[], tokenizer.stream()];
  let [text, reason] = ['', 'length'];
  const emit = (piece, token) => {
    text += piece;
    onToken(piece, token);
  };
  while (tokens.length < maxTokens) {
    const token = sampler.sample(logits.data);
    if (end.has(token)) {
      reason = 'eos';
      break;
    }
    tokens.push(token);
    emit(stream.push(token), token);
    if (tokens.length === maxTokens) break;
    const position = promptTokens.length + tokens.length - 1;
    if (position >= context) break;
    signal?.throwIfAborted();
    ({ logits } = await session.run('decode', { tokens: Int32Array.of(token), position }));
  }
  const rest = stream.finish();
  if (rest) emit(rest);
  const decodeSeconds = (performance.now() - prefilled) / 1e3;
  return { text, tokens, promptTokens, reason, prefillSeconds: (prefilled - start) / 1e3, decodeSeconds };
}
