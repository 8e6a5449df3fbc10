// Vercel's AI SDK and openai's ResponsesWS through the gateway, against pools whose first member throttles, fails, breaks,
// stalls or is odd: no exception where an answer was to be had, the right text, the right usage.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import { start } from './harness.mjs';

// The packages stand outside the tree of the tests: NODE_PATH names their folder.
const require = createRequire(import.meta.url);
const { default: OpenAI } = require('openai');
const { ResponsesWS } = require('openai/resources/responses/ws');
const { createOpenAI } = require('@ai-sdk/openai');
const { createAzure } = require('@ai-sdk/azure');
const { generateText, streamText, tool } = require('ai');
const { z } = require('zod');

const REPLY = 'A spillway lets water run off where it does no harm.';
const FAULTS = ['throttled', 'failing', 'gone', 'cut', 'stalled', 'error-event', 'malformed'];
const prompt = 'What is a spillway?';

let stop, url;

before(async () => {
  [[url], stop] = await start('faults.py');
});

after(() => stop());

/** The AI SDK's ways to a model: OpenAI's and Azure's URLs, chat and responses. */
function ways(name) {
  const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'x' });
  const azure = createAzure({ baseURL: `${url}/openai`, apiKey: 'x' });
  return { 'openai, chat': openai.chat(name), 'openai, responses': openai.responses(name), 'azure, chat': azure.chat(name), 'azure, responses': azure.responses(name) };
}

for (const fault of FAULTS) {
  test(`AI SDK: ${fault}`, async () => {
    for (const [way, model] of Object.entries(ways(fault))) {
      const answer = await generateText({ model, prompt, maxRetries: 0 });
      assert.equal(answer.text, REPLY, way);
      assert.ok(answer.usage.outputTokens > 0, way);
      let failed;
      const streamed = streamText({ model, prompt, maxRetries: 0, onError: ({ error }) => { failed = error; } });
      let text = '';
      for await (const piece of streamed.textStream) text += piece;
      assert.equal(failed, undefined, `${way}: ${failed}`);
      assert.equal(text, REPLY, way);
      assert.equal((await streamed.usage).outputTokens, answer.usage.outputTokens, way);
    }
  });

  test(`ResponsesWS: ${fault}`, async () => {
    const socket = new ResponsesWS(new OpenAI({ baseURL: `${url}/v1`, apiKey: 'x', maxRetries: 0 }));
    let previous = null;
    for (const input of [prompt, 'Why?']) {
      const [text, response] = await new Promise((resolve, reject) => {
        let text = '';
        const heard = (event) => {
          if (event.type === 'response.output_text.delta') text += event.delta;
          if (event.type !== 'response.completed') return;
          socket.off('event', heard);
          resolve([text, event.response]);
        };
        socket.on('event', heard);
        socket.on('error', reject);
        socket.send({ type: 'response.create', model: fault, store: false, input, previous_response_id: previous });
      });
      assert.equal(text, REPLY);
      assert.ok(response.usage.output_tokens > 0);
      previous = response.id;
    }
    socket.close();
  });
}

test('AI SDK: tools', async () => {
  const height = tool({ description: 'What is known of a spillway.', inputSchema: z.object({ height: z.number() }) });
  for (const [way, model] of Object.entries(ways('tools')).filter(([way]) => way.endsWith('chat'))) {
    const answer = await generateText({ model, prompt: 'How high is it?', tools: { height }, maxRetries: 0 });
    assert.deepEqual(answer.toolCalls.map((call) => [call.toolName, call.input]), [['height', { height: 7 }]], way);
    assert.equal(answer.usage.totalTokens, 16, way);
  }
});
