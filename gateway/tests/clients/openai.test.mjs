// openai for Node through the gateway, against a pool whose first target always throttles.

import assert from 'node:assert/strict';
import { File } from 'node:buffer';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import { start } from './harness.mjs';

// The packages stand outside the tree of the tests: NODE_PATH names their folder.
const require = createRequire(import.meta.url);
const { default: OpenAI, AzureOpenAI } = require('openai');

const REPLY = 'A spillway lets water run off where it does no harm.';
const messages = [{ role: 'user', content: 'What is a spillway?' }];

let stop, clients, admin, cached;

async function throttled() {
  const text = await (await fetch(`${admin}/metrics`)).text();
  return text.split('\n').filter((line) => line.startsWith('spillway_attempts_total{') && line.includes('outcome="throttled"'))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

before(async () => {
  const [[url, adminUrl, apiKey, cachedKey], end] = await start('harness.py');
  stop = end;
  admin = adminUrl;
  cached = new OpenAI({ baseURL: `${url}/v1`, apiKey: cachedKey, maxRetries: 0 });
  clients = [
    ['OpenAI', new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })],
    ['AzureOpenAI', new AzureOpenAI({ endpoint: url, apiKey, apiVersion: '2024-10-21', maxRetries: 0 })],
  ];
});

after(() => stop());

async function onEach(check) {
  for (const [name, client] of clients) {
    const earlier = await throttled();
    await check(client);
    assert.ok((await throttled()) > earlier, `${name}: the first target was never asked`);
  }
}

test('chat', () => onEach(async (client) => {
  const answer = await client.chat.completions.create({ model: 'gpt-4o', messages });
  assert.equal(answer.choices[0].message.content, REPLY);
}));

test('chat, streamed', () => onEach(async (client) => {
  const stream = await client.chat.completions.create({ model: 'gpt-4o', messages, stream: true });
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
  assert.equal(text, REPLY);
}));

test('embeddings', () => onEach(async (client) => {
  const answer = await client.embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] });
  assert.deepEqual(answer.data.map((item) => item.embedding.length), [1536, 1536]);
}));

test('responses', () => onEach(async (client) => {
  const answer = await client.responses.create({ model: 'gpt-4o', input: 'What is a spillway?' });
  assert.equal(answer.output_text, REPLY);
}));

test('responses, streamed', () => onEach(async (client) => {
  let text = '', last;
  for await (const event of await client.responses.create({ model: 'gpt-4o', input: 'x', stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
    last = event.type;
  }
  assert.deepEqual([text, last], [REPLY, 'response.completed']);
}));

test('upload', () => onEach(async (client) => {
  const file = new File([new Uint8Array(200_000)], 'a.wav');
  const answer = await client.audio.transcriptions.create({ model: 'gpt-4o', file });
  assert.equal(answer.text, REPLY);
}));

test('kept answers in both forms', async () => {
  const ask = async (more) => {
    const { data, response } = await cached.chat.completions.create({ model: 'gpt-4o', messages, ...more }).withResponse();
    return [response.headers.get('x-spillway-cache'), data];
  };
  const [, first] = await ask({});
  const [hit, again] = await ask({});
  assert.deepEqual([hit, again], ['hit', first]);
  const [result, stream] = await ask({ stream: true });
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
  assert.deepEqual([result, text], ['hit', first.choices[0].message.content]);
  const response = await cached.responses.create({ model: 'gpt-4o', input: 'x' });
  const runner = cached.responses.stream({ model: 'gpt-4o', input: 'x' });
  assert.equal((await runner.finalResponse()).output_text, response.output_text);
  const chat = cached.chat.completions.stream({ model: 'gpt-4o', messages });
  assert.equal((await chat.finalChatCompletion()).choices[0].message.content, text);
});
