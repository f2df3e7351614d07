// Runs the test that the query names, on what /spec.json holds, and posts what failed.

const spec = await (await fetch('/spec.json')).json();
const post = (path, body) => fetch(path, { method: 'POST', body });
const failures = [];
const note = (text) => post('/console', text);

function check(label, got, want) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) failures.push(`${label}: expected ${b}, found ${a}`);
}

async function refused(label, id, mention, act) {
  try {
    await act();
    failures.push(`${label}: expected ${id}, nothing was refused`);
  } catch (e) {
    check(label, e.id ?? String(e), id);
    if (!e.message.includes(mention)) failures.push(`${label}: expected a mention of ${mention}, found ${e.message}`);
  }
}

/** Every module on its own, through Dawn's front end, which alone checks that control flow is uniform. */
async function shaders() {
  const adapter = await navigator.gpu.requestAdapter();
  const requiredFeatures = ['subgroups'].filter((f) => adapter.features.has(f));
  const device = await adapter.requestDevice({ requiredFeatures });
  device.addEventListener('uncapturederror', (e) => e.preventDefault());
  for (const { name, text } of spec.modules) {
    const module = device.createShaderModule({ code: text });
    for (const m of (await module.getCompilationInfo()).messages) {
      if (m.type === 'error') failures.push(`${name}:${m.lineNum}: ${m.message}\n  ${text.split('\n')[m.lineNum - 1]}`);
    }
  }
  return `${spec.modules.length} modules`;
}

/** Loader, tokenizer, sampler and generation on the trained Llama. */
async function llama() {
  const { load, generate, Sampler, Tokenizer } = await import('/model/mlxc.js');
  const stages = {};
  const begun = performance.now();
  const model = await load('/model', { onProgress: ({ stage, loaded, total }) => { stages[stage] = loaded / total; } });
  const loadSeconds = (performance.now() - begun) / 1e3;
  check('progress', [stages.weights, stages.shaders], [1, 1]);
  check('end tokens', model.endTokens, [1]);
  const [session, tokenizer] = await Promise.all([model.session(), model.tokenizer()]);
  for (const { text, tokens, plain } of spec.texts) {
    check(`tokens of ${JSON.stringify(text)}`, tokenizer.encode(text), tokens);
    check(`text of ${tokens}`, tokenizer.decode(tokens), plain);
    check(`text of ${tokens} with special tokens`, tokenizer.decode(tokens, { special: true }), text);
  }
  check('vocabulary', tokenizer.vocabularySize, 1024);
  check('bytes that are no text', tokenizer.decode(spec.broken.tokens), spec.broken.text);
  const json = await (await fetch('/model/text/tokenizer.json')).json();
  const other = (change) => () => new Tokenizer({ ...json, ...change });
  await refused('a model of another kind', 'MLXC0751', 'Unigram', other({ model: { type: 'Unigram' } }));
  await refused('a normaliser', 'MLXC0751', 'Lowercase', other({ normalizer: { type: 'Lowercase' } }));
  await refused('a pre-tokenizer', 'MLXC0751', 'Metaspace', other({ pre_tokenizer: { type: 'Metaspace' } }));
  await refused('a decoder', 'MLXC0751', 'WordPiece', other({ decoder: { type: 'WordPiece' } }));
  await refused('a token', 'MLXC0752', '5000', () => tokenizer.decode([5000]));
  for (const { options, logits, tokens } of spec.samples) {
    const sampler = new Sampler(options);
    check(`samples of ${JSON.stringify(options)}`, tokens.map(() => sampler.sample(logits)), tokens);
  }
  await refused('a temperature', 'MLXC0756', 'temperature', () => new Sampler({ temperature: -1 }));
  await refused('logits', 'MLXC0757', 'NaN', () => new Sampler().sample([0, NaN]));
  let [written, seconds] = [0, 0];
  for (const { text, greedy } of spec.prompts) {
    let streamed = '';
    const onToken = (piece) => { streamed += piece; };
    const out = await generate(session, tokenizer, text, { maxTokens: greedy.length, ignoreEos: true, onToken });
    check(`what follows ${text}`, out.tokens, greedy);
    check(`what was streamed after ${text}`, streamed, out.text);
    check(`the text after ${text}`, out.text, tokenizer.decode(greedy));
    check(`the reason after ${text}`, out.reason, 'length');
    written += out.tokens.length - 1;
    seconds += out.decodeSeconds;
  }
  const [first] = spec.prompts;
  // Prompts in chunks, and states that a reset clears, give the same.
  await session.reset();
  const again = await generate(session, tokenizer, tokenizer.encode(first.text), { maxTokens: 4, ignoreEos: true });
  check('after a reset', again.tokens, first.greedy.slice(0, 4));
  const sampled = { maxTokens: 8, temperature: 0.8, topP: 0.9, seed: 7 };
  const [a, b] = [await generate(session, tokenizer, 'And', sampled), await generate(session, tokenizer, 'And', sampled)];
  check('sampling by a seed', a.tokens, b.tokens);
  model.endTokens = [first.greedy[2]];
  const ended = await generate(session, tokenizer, first.text, { maxTokens: 8 });
  check('a text that ends', [ended.tokens, ended.reason], [first.greedy.slice(0, 2), 'eos']);
  const abort = new AbortController();
  const onToken = () => abort.abort();
  const stopped = generate(session, tokenizer, first.text, { maxTokens: 8, onToken, signal: abort.signal });
  check('a signal', await stopped.catch((e) => e.name), 'AbortError');
  const tokens = Int32Array.of(1, 2, 3);
  const step = (inputs, entry = 'prefill') => () => session.run(entry, inputs);
  await refused('an entry', 'MLXC0705', '`decode`', step({}, 'nothing'));
  await refused('an input', 'MLXC0705', '`x`', step({ tokens, position: 0, x: 1 }));
  await refused('no position', 'MLXC0706', '`position`', step({ tokens }));
  await refused('a dtype', 'MLXC0708', 'Int32Array', step({ tokens: Float32Array.of(1), position: 0 }));
  await refused('a rank', 'MLXC0709', '[S], found [1, 3]', step({ tokens: { data: tokens, shape: [1, 3] }, position: 0 }));
  await refused('an extent', 'MLXC0710', '`S` in 1..=', step({ tokens: new Int32Array(0), position: 0 }));
  await refused('a position', 'MLXC0710', '`position` in 0..=511', step({ tokens, position: 512 }));
  await refused('a condition', 'MLXC0712', 'position = 511', step({ tokens, position: 511 }));
  await refused('a shape', 'MLXC0713', '4 elements', step({ tokens: { data: tokens, shape: [4] }, position: 0 }));
  await refused('an empty prompt', 'MLXC0710', '1..=512', () => generate(session, tokenizer, ''));
  model.destroy();
  await refused('a lost device', 'MLXC0720', 'lost', step({ tokens, position: 0 }));
  return `loaded in ${loadSeconds.toFixed(2)} s, ${(written / seconds).toFixed(1)} tokens/s on ${model.adapter}`;
}

/** Every dtype in and out, symbols and states, against the interpreter. */
async function ports() {
  const { load } = await import('/model/mlxc.js');
  const model = await load('/model');
  const session = await model.session();
  const types = { f32: Float32Array, bf16: Float32Array, f16: Float32Array, i32: Int32Array, u32: Uint32Array, i16: Int16Array,
    u16: Uint16Array, i8: Int8Array, u8: Uint8Array, bool: Uint8Array };
  for (const { inputs, outputs } of spec.steps) {
    const given = Object.fromEntries(inputs.map(({ name, dtype, shape, data }) => {
      return [name, { data: types[dtype].from(data), shape }];
    }));
    const got = await session.run('main', given);
    check('outputs', Object.keys(got), outputs.map((o) => o.name));
    for (const { name, dtype, shape, data } of outputs) {
      check(`output ${name}`, [got[name].dtype, got[name].shape, [...got[name].data]], [dtype, shape, data]);
      check(`the array of ${name}`, got[name].data.constructor, types[dtype]);
    }
  }
  await refused('a missing folder', 'MLXC0715', '404', () => load('/nothing/'));
  await refused('another format', 'MLXC0604', 'mlxc-web 1', () => load('/other'));
  await refused('a broken shader', 'MLXC0703', 'line 1', () => load('/broken'));
  await refused('a short piece', 'MLXC0715', 'bytes', () => load('/short'));
  const small = await (await navigator.gpu.requestAdapter()).requestDevice();
  await refused('a small device', 'MLXC0718', 'maxStorageBuffersPerShaderStage', () => load('/many', { device: small }));
  const own = await load('/model', { device: model.device });
  check('the device of the caller', own.device === model.device, true);
  const { evaluate, display } = await import('/model/mlxc/size.js');
  for (const { size, names, text, at, value } of spec.sizes) {
    check(`${text} at ${at}`, evaluate(size, at), value);
    check(text, display(size, names), text);
  }
  const tensor = await import('/model/mlxc/tensor.js');
  for (const [value, bf16, f16] of spec.rounded) {
    const x = value === null ? NaN : value;
    check(`${x} in bf16`, tensor.toBf16(x), bf16);
    check(`${x} in f16`, tensor.toF16(x), f16);
  }
  const { groups } = await import('/model/mlxc/session.js');
  const grids = [[false, []], [false, [2, 3, 5]], [false, [2, 0]], [true, [4, -1]], [true, [65535]], [true, [2, 2, 2, 8192]]];
  check('dispatches', grids.map(([linear, grid]) => groups(linear, grid) ?? null), [[1, 1, 1], [5, 3, 2], null, null, [65535, 1, 1], [65535, 2, 1]]);
}

/** The page of the examples, used as a person would. */
async function example() {
  const frame = document.createElement('iframe');
  frame.src = '/example/';
  document.body.append(frame);
  await new Promise((loaded) => { frame.onload = loaded; });
  const element = (id) => frame.contentDocument.getElementById(id);
  const until = async (done) => { while (!done()) await new Promise((r) => setTimeout(r, 50)); };
  await until(() => !element('write').disabled || /MLXC|Error/.test(element('status').textContent));
  if (!element('status').textContent.startsWith('Runs on ')) failures.push(element('status').textContent);
  element('tokens').value = spec.tokens;
  element('prompt').value = spec.prompt;
  element('write').click();
  await until(() => element('write').disabled);
  await until(() => !element('write').disabled);
  check('the text', element('text').textContent, spec.prompt + spec.text);
  return element('status').textContent;
}

const test = { shaders, llama, ports, example }[location.search.slice(1)];
try {
  note((await test()) ?? '');
} catch (e) {
  failures.push(`${e.id ?? ''} ${e.stack ?? e}`);
}
await post('/result', JSON.stringify(failures));
