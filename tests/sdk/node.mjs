// OpenAI's library for Node against the running service. What python.py does in
// full is done here where the library has code of its own: streams, helpers,
// uploads, errors.

import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const { SERVICE_URL: service, ADMIN_KEY: adminKey, ONLY: only = '' } = process.env;
const provider = process.env.UPSTREAM_URL.replace(/\/v1$/, '');
const patience = 30_000;
const model = 'gpt-4o-mini';
const messages = [{ role: 'user', content: 'Hello there' }];

async function call(method, url, body, headers = {}) {
  const answer = await fetch(url, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${url}: ${answer.status}: ${text}`);
  return text ? JSON.parse(text) : undefined;
}

const admin = (method, path, body) => call(method, service + path, body, { 'X-Admin-Key': adminKey });
const upstream = (path, body) => call(body === undefined ? 'GET' : 'POST', `${provider}/_scripted/${path}`, body);
const script = (what = {}, name = model) => upstream('script', { model: name, script: what });
const lastBody = async () => JSON.parse((await upstream('requests')).at(-1).body);

async function newKey(options = {}) {
  const { tenant_id: tenant } = await admin('POST', '/admin/tenants', { name: 'sdk' });
  const { api_key: key } = await admin('POST', `/admin/tenants/${tenant}/keys`, { name: 'sdk', ...options });
  return { tenant, key };
}

const clientOf = (apiKey, options = {}) =>
  new OpenAI({ apiKey, baseURL: `${service}/v1`, maxRetries: 0, timeout: patience, ...options });

async function eventually(what, look) {
  const end = Date.now() + patience;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`${what}: not within ${patience} ms`);
}

async function raises(kind, status, act) {
  try {
    await act();
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.constructor?.name}, not ${kind.name}: ${error}`);
    assert.equal(error.status, status, String(error));
    assert.ok(error.error?.message, `no envelope: ${JSON.stringify(error.error)}`);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

async function all(stream) {
  const seen = [];
  for await (const one of stream) seen.push(one);
  return seen;
}

const client = clientOf((await newKey()).key);
const chat = (more = {}) => client.chat.completions.create({ model, messages, ...more });
const tool = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

async function chat_whole() {
  await script({ used: { input: 20, cached: 8, output: 5, reasoning: 2 } });
  const { data, response } = await chat().withResponse();
  assert.equal(data.choices[0].message.content, 'hello hello hello');
  assert.equal(data.usage.total_tokens, 25);
  assert.equal(data.usage.prompt_tokens_details.cached_tokens, 8);
  assert.ok(Number(response.headers.get('x-cost-usd')) > 0);
  assert.equal(response.headers.get('x-model-used'), model);
}

async function chat_stream() {
  await script({ text: 'Grüße aus 東京 🌍 heute', pieces: 3 });
  const chunks = await all(await chat({ stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'Grüße aus 東京 🌍 heute');
  assert.equal(chunks.at(-1).usage.completion_tokens, 5);
  const stream = client.chat.completions.stream({ model, messages });
  let text = '';
  stream.on('content', (piece) => (text += piece));
  assert.equal(await stream.finalContent(), 'Grüße aus 東京 🌍 heute');
  assert.equal(text, 'Grüße aus 東京 🌍 heute');
}

async function chat_tools() {
  await script({ use_tools: true });
  const asked = [];
  const runner = client.chat.completions.runTools({
    model,
    messages,
    tools: [
      {
        type: 'function',
        function: {
          name: 'weather',
          description: 'The weather in a city',
          parameters: tool,
          parse: JSON.parse,
          function: async (given) => {
            asked.push(given);
            return 'sunny';
          },
        },
      },
    ],
  });
  assert.ok(await runner.finalContent());
  assert.deepEqual(asked, [{ city: 'text' }]);
  assert.equal((await lastBody()).messages.at(-1).content, 'sunny');
}

async function chat_structured_output() {
  await script();
  const format = { type: 'json_schema', json_schema: { name: 'day', strict: true, schema: tool } };
  const answer = await client.chat.completions.parse({ model, messages, response_format: format });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: 'text' });
}

async function chat_images() {
  await script({ used: { input: 900, output: 3 } });
  const content = [
    { type: 'text', text: 'What is this?' },
    { type: 'image_url', image_url: { url: `data:image/png;base64,${Buffer.alloc(3000).toString('base64')}` } },
  ];
  await chat({ messages: [{ role: 'user', content }], x_unknown: { a: [1, null] } });
  const body = await lastBody();
  assert.deepEqual(body.messages[0].content, content);
  assert.deepEqual(body.x_unknown, { a: [1, null] });
}

async function responses() {
  await script({ used: { input: 12, output: 3 } });
  const made = await client.responses.create({ model, input: 'Hello', instructions: 'Be brief' });
  assert.equal(made.output_text, 'hello hello hello');
  assert.equal(made.usage.total_tokens, 15);
  assert.equal((await client.responses.retrieve(made.id)).output_text, made.output_text);
  assert.equal((await all(client.responses.inputItems.list(made.id)))[0].content[0].text, 'Hello');
  const after = await client.responses.create({ model, input: 'And now?', previous_response_id: made.id });
  assert.equal(after.previous_response_id, made.id);
  await client.responses.delete(made.id);
  await raises(OpenAI.NotFoundError, 404, () => client.responses.retrieve(made.id));
}

async function responses_stream() {
  await script({ used: { input: 12, output: 4 } });
  const events = await all(await client.responses.create({ model, input: 'Hello', stream: true }));
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(events.at(-1).type, 'response.completed');
  const stream = client.responses.stream({ model, input: 'Hello' });
  let text = '';
  stream.on('response.output_text.delta', (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(final.output_text, text);
  assert.equal(text, 'hello hello hello hello');
}

async function responses_tools() {
  await script({ use_tools: true });
  const tools = [{ type: 'function', name: 'weather', parameters: tool, strict: false }];
  const made = await client.responses.create({ model, input: 'Weather?', tools });
  const asked = made.output.find((item) => item.type === 'function_call');
  assert.deepEqual(JSON.parse(asked.arguments), { city: 'text' });
  const input = [{ type: 'function_call_output', call_id: asked.call_id, output: 'sunny' }];
  const after = await client.responses.create({ model, input, tools, previous_response_id: made.id });
  assert.ok(after.output_text);
}

async function responses_background() {
  await script({ used: { input: 12, output: 6 }, pause_ms: 20 });
  const seen = [];
  const stream = await client.responses.create({ model, input: 'Hello', background: true, stream: true });
  for await (const event of stream) {
    seen.push(event);
    if (seen.length === 5) break;
  }
  const id = seen[0].response.id;
  const from = { stream: true, starting_after: seen.at(-1).sequence_number };
  seen.push(...(await all(await client.responses.retrieve(id, from))));
  assert.deepEqual(seen.map((event) => event.sequence_number), [...seen.keys()].map((at) => at + seen[0].sequence_number));
  assert.equal(seen.at(-1).type, 'response.completed');
  await script({ fault: 'hang_before' });
  const made = await client.responses.create({ model, input: 'Hello', background: true });
  assert.ok(['queued', 'in_progress'].includes(made.status));
  await client.responses.cancel(made.id);
  await eventually('it is cancelled', async () => (await client.responses.retrieve(made.id)).status === 'cancelled');
}

async function embeddings() {
  const ask = { model: 'text-embedding-3-small', input: ['one', 'two'], dimensions: 4 };
  const made = await client.embeddings.create(ask);
  const floats = await client.embeddings.create({ ...ask, encoding_format: 'float' });
  assert.deepEqual(made.data.map((row) => [...row.embedding]), floats.data.map((row) => row.embedding));
}

async function models() {
  const names = (await all(client.models.list())).map((one) => one.id);
  assert.ok(names.includes('default') && names.includes(`openai/${model}`), String(names));
  assert.equal((await client.models.retrieve('default')).id, 'default');
}

async function audio() {
  await script({ text: 'spoken words', used: { seconds: 1 } }, 'whisper-1');
  const file = await toFile(Buffer.alloc(16_044, 1), 'a.wav', { type: 'audio/wav' });
  assert.equal((await client.audio.transcriptions.create({ model: 'whisper-1', file })).text, 'spoken words');
  const other = 'gpt-4o-mini-transcribe';
  await script({ used: { input: 10, output: 4 } }, other);
  const events = await all(await client.audio.transcriptions.create({ model: other, file, stream: true }));
  assert.equal(events.at(-1).text, 'hello hello hello hello');
  const spoken = await client.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Good morning' });
  assert.equal((await spoken.arrayBuffer()).byteLength, 1_200);
}

async function files_and_batches() {
  await script({ used: { input: 10, output: 3 } });
  const line = (id) => ({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body: { model, messages } });
  const lines = ['one', 'two'].map((id) => JSON.stringify(line(id))).join('\n');
  const file = await client.files.create({ file: await toFile(Buffer.from(lines), 'batch.jsonl'), purpose: 'batch' });
  assert.equal(await (await client.files.content(file.id)).text(), lines);
  const made = await client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  const batch = await eventually('the batch ends', async () => {
    const now = await client.batches.retrieve(made.id);
    return ['completed', 'failed', 'expired', 'cancelled'].includes(now.status) && now;
  });
  assert.equal(batch.status, 'completed');
  assert.deepEqual({ ...batch.request_counts }, { total: 2, completed: 2, failed: 0 });
  const output = await (await client.files.content(batch.output_file_id)).text();
  assert.equal(output.trim().split('\n').length, 2);
  assert.ok((await client.files.delete(file.id)).deleted);
  await raises(OpenAI.NotFoundError, 404, () => client.files.retrieve(file.id));
}

async function errors() {
  await script();
  await raises(OpenAI.AuthenticationError, 401, () => clientOf('agk_live_wrong_key').models.list());
  await raises(OpenAI.NotFoundError, 404, () => chat({ model: 'no-such-model' }));
  await raises(OpenAI.BadRequestError, 400, () => chat({ max_tokens: -1 }));
  const { key } = await newKey({ scopes: ['jobs:read'] });
  await raises(OpenAI.PermissionDeniedError, 403, () => clientOf(key).chat.completions.create({ model, messages }));
  const poor = await newKey();
  await admin('PUT', `/admin/tenants/${poor.tenant}/budget`, { day_usd: '0' });
  await raises(OpenAI.APIError, 402, () => clientOf(poor.key).chat.completions.create({ model, messages }));
  const fast = await newKey();
  await admin('PUT', `/admin/tenants/${fast.tenant}/quota`, { requests_per_minute: 1 });
  await clientOf(fast.key).models.list();
  await raises(OpenAI.RateLimitError, 429, () => clientOf(fast.key).models.list());
}

async function errors_in_mid_stream() {
  // A model of its own: after so many failures it is left alone for a while.
  await script({ used: { input: 10, output: 8 }, fault: { cut_after: 3 } }, 'gpt-5-mini');
  await assert.rejects(async () => all(await chat({ model: 'gpt-5-mini', stream: true })), OpenAI.APIError);
}

async function timeouts() {
  await script({ fault: 'hang_before' }, 'gpt-5-nano');
  const impatient = clientOf(client.apiKey, { timeout: 2000 });
  const act = () => impatient.chat.completions.create({ model: 'gpt-5-nano', messages });
  await assert.rejects(act, OpenAI.APIConnectionTimeoutError);
}

async function hanging_up_cancels_the_stream() {
  await script({ used: { input: 10, output: 8 }, fault: { hang_after: 2 } }, 'gpt-5-nano');
  const { cancelled } = (await upstream('state')).counts;
  const stream = await chat({ model: 'gpt-5-nano', stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  await eventually('the provider is left alone', async () => (await upstream('state')).counts.cancelled > cancelled);
}

const checks = [
  chat_whole,
  chat_stream,
  chat_tools,
  chat_structured_output,
  chat_images,
  responses,
  responses_stream,
  responses_tools,
  responses_background,
  embeddings,
  models,
  audio,
  files_and_batches,
  errors,
  errors_in_mid_stream,
  timeouts,
  hanging_up_cancels_the_stream,
];
let failed = 0;
for (const check of checks.filter((check) => check.name.includes(only))) {
  try {
    await check();
    console.log(`  ok      ${check.name}`);
  } catch (error) {
    failed += 1;
    console.log(`  FAILED  ${check.name}`);
    console.log(error);
  } finally {
    await script();
  }
}
process.exit(failed ? 1 : 0);
