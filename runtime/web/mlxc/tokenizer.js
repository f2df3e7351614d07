// Text to tokens and back, by a Hugging Face tokenizer.json of the byte-level BPE kind (GPT-2, Llama 3, Qwen). What the file asks
// for and this code does not do is refused by name.

import { MlxcError } from './error.js';

/** GPT-2's words: contractions, letters, digits, other signs, each with a space before it; white space. */
const WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

function refuse(what, found, expected) {
  throw new MlxcError('MLXC0751', `tokenizer.json: expected ${what} to be ${expected}, found ${JSON.stringify(found)}`);
}

/** GPT-2's characters for bytes: printable ones stand for themselves, the rest follow from U+0100 on. */
function byteCharacters() {
  const printable = (b) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
}

const CHARACTERS = byteCharacters();
const BYTES = new Map(CHARACTERS.map((c, b) => [c, b]));

/** A pattern of Oniguruma's, whose classes know all of Unicode, in JavaScript's words. */
function regex(pattern) {
  const classes = { s: 'p{White_Space}', S: 'P{White_Space}', d: 'p{Nd}', D: 'P{Nd}' };
  const text = pattern.replace(/\\(.)/gs, (all, c) => (classes[c] ? `\\${classes[c]}` : all));
  try {
    return new RegExp(text, 'gu');
  } catch (e) {
    return refuse('a pattern', pattern, `one that this browser knows (${e.message})`);
  }
}

/** Matches, and what lies between them. */
function isolate(text, pattern) {
  const [out, push] = [[], (piece) => piece && out.push(piece)];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    push(text.slice(end, match.index));
    push(match[0]);
    end = match.index + match[0].length;
  }
  push(text.slice(end));
  return out;
}

/** From a piece of text to words; byte characters come last. */
function preTokenizer(config) {
  switch (config?.type) {
    case 'Sequence': {
      const steps = config.pretokenizers.map(preTokenizer);
      return (pieces) => steps.reduce((all, step) => step(all), pieces);
    }
    case 'Split': {
      const { pattern, behavior, invert } = config;
      if (behavior !== 'Isolated') refuse('the behaviour of Split', behavior, 'Isolated');
      if (invert) refuse('invert of Split', invert, 'false');
      if (pattern.Regex === undefined) refuse('the pattern of Split', pattern, 'a Regex');
      const words = regex(pattern.Regex);
      return (pieces) => pieces.flatMap((p) => isolate(p, words));
    }
    case 'ByteLevel': {
      const words = config.use_regex === false ? undefined : regex(WORDS);
      const encoder = new TextEncoder();
      const spaced = (p) => (config.add_prefix_space && !p.startsWith(' ') ? ` ${p}` : p);
      const characters = (p) => Array.from(encoder.encode(p), (b) => CHARACTERS[b]).join('');
      return (pieces) => pieces.map(spaced).flatMap((p) => (words ? isolate(p, words) : [p])).map(characters);
    }
    default:
      return refuse('the pre-tokenizer', config?.type ?? null, 'ByteLevel, Split or a Sequence of them');
  }
}

function endsInBytes(config) {
  return config?.type === 'ByteLevel' || (config?.type === 'Sequence' && endsInBytes(config.pretokenizers.at(-1)));
}

/** Ids that stand before and after a text. */
function postProcessor(config, idOf) {
  switch (config?.type) {
    case undefined:
    case 'ByteLevel':
      return [[], []];
    case 'Sequence': {
      const all = config.processors.map((p) => postProcessor(p, idOf)).filter(([a, b]) => a.length + b.length > 0);
      if (all.length > 1) refuse('the post-processor', 'several templates', 'one template at most');
      return all[0] ?? [[], []];
    }
    case 'TemplateProcessing': {
      const sides = [[], []];
      let side = 0;
      for (const part of config.single) {
        if (part.Sequence) side = 1;
        else sides[side].push(...(config.special_tokens[part.SpecialToken.id]?.ids ?? [idOf(part.SpecialToken.id)]));
      }
      return sides;
    }
    default:
      return refuse('the post-processor', config.type, 'ByteLevel, TemplateProcessing or a Sequence of them');
  }
}

export class Tokenizer {
  constructor(json) {
    const { model, normalizer } = json;
    if (model?.type !== 'BPE') refuse('the model', model?.type ?? null, 'BPE');
    for (const option of ['dropout', 'unk_token', 'continuing_subword_prefix', 'end_of_word_suffix']) {
      if (model[option]) refuse(`${option} of the model`, model[option], 'none');
    }
    if (model.byte_fallback) refuse('byte_fallback of the model', true, 'false');
    if (normalizer && normalizer.type !== 'NFC') refuse('the normalizer', normalizer.type, 'NFC or none');
    if (!endsInBytes(json.pre_tokenizer)) refuse('the pre-tokenizer', json.pre_tokenizer?.type ?? null, 'one that ends in ByteLevel');
    if (json.decoder?.type !== 'ByteLevel') refuse('the decoder', json.decoder?.type ?? null, 'ByteLevel');
    this.normalize = normalizer ? (text) => text.normalize('NFC') : (text) => text;
    this.words = preTokenizer(json.pre_tokenizer);
    this.ids = new Map(Object.entries(model.vocab));
    this.ignoreMerges = model.ignore_merges === true;
    const pair = (m) => (Array.isArray(m) ? m.join(' ') : m);
    this.ranks = new Map(model.merges.map((m, rank) => [pair(m), rank]));
    this.special = new Set();
    this.added = new Map();
    for (const token of json.added_tokens ?? []) {
      for (const option of ['single_word', 'lstrip', 'rstrip']) {
        if (token[option]) refuse(`${option} of \`${token.content}\``, true, 'false');
      }
      this.added.set(token.content, token.id);
      if (token.special) this.special.add(token.id);
    }
    this.tokens = [];
    for (const [token, id] of [...this.ids, ...this.added]) this.tokens[id] = token;
    // Where two match at one place, the longer one is meant.
    const contents = [...this.added.keys()].sort((a, b) => b.length - a.length);
    const escaped = contents.map((t) => t.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
    this.addedPattern = contents.length > 0 ? new RegExp(escaped.join('|'), 'gu') : undefined;
    [this.before, this.after] = postProcessor(json.post_processor, (token) => this.tokenId(token));
  }

  get vocabularySize() {
    return this.tokens.filter((t) => t !== undefined).length;
  }

  tokenId(token) {
    return this.added.get(token) ?? this.ids.get(token);
  }

  encode(text, { special = true } = {}) {
    const out = special ? [...this.before] : [];
    for (const piece of this.addedPattern ? isolate(text, this.addedPattern) : [text]) {
      const added = this.added.get(piece);
      if (added !== undefined) out.push(added);
      else if (piece) for (const word of this.words([this.normalize(piece)])) out.push(...this.merge(word));
    }
    return special ? [...out, ...this.after] : out;
  }

  /** The tokens of a word: its characters, joined pair by pair, the earliest rule of the merges first. */
  merge(word) {
    const whole = this.ignoreMerges ? this.ids.get(word) : undefined;
    if (whole !== undefined) return [whole];
    let parts = [...word];
    for (;;) {
      let [best, at] = [Infinity, -1];
      for (let i = 0; i + 1 < parts.length; i += 1) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts = [...parts.slice(0, at), parts[at] + parts[at + 1], ...parts.slice(at + 2)];
    }
    return parts.map((part) => {
      const id = this.ids.get(part);
      if (id === undefined) throw new MlxcError('MLXC0752', `cannot encode a text: the vocabulary lacks \`${part}\``);
      return id;
    });
  }

  decode(tokens, { special = false } = {}) {
    const stream = this.stream({ special });
    return tokens.map((t) => stream.push(t)).join('') + stream.finish();
  }

  /** Decodes tokens as they come; no piece ends within a character. */
  stream({ special = false } = {}) {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const push = (token) => {
      if (this.special.has(token) && !special) return '';
      return decoder.decode(this.bytes(token), { stream: true });
    };
    return { push, finish: () => decoder.decode() };
  }

  bytes(id) {
    const token = this.tokens[id];
    if (token === undefined) throw new MlxcError('MLXC0752', `cannot decode tokens: there is no token ${id}`);
    const bytes = [...token].map((c) => BYTES.get(c));
    return bytes.includes(undefined) ? new TextEncoder().encode(token) : Uint8Array.from(bytes);
  }
}
