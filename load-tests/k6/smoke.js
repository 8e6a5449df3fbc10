// A few callers for a few seconds: everything is answered, nothing is slow.
//   k6 run -e URL=http://127.0.0.1:8080 [-e KEY=…] [-e MODEL=gpt-4o] smoke.js

import { check } from 'k6';
import http from 'k6/http';
import { body, headers, url } from './common.js';

export const options = {
  scenarios: { smoke: { executor: 'constant-arrival-rate', rate: 5, timeUnit: '1s', duration: '4s', preAllocatedVUs: 10 } },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
  },
};

export default function () {
  const plain = http.post(url('/v1/chat/completions'), body(false), headers());
  check(plain, {
    'plain answer': (answer) => answer.status === 200 && answer.json('choices.0.message.content').length > 0,
    'says who served it': (answer) => answer.headers['X-Spillway-Backend'] !== undefined,
  });
  const streamed = http.post(url('/v1/chat/completions'), body(true), headers());
  check(streamed, { 'whole stream': (answer) => answer.status === 200 && answer.body.trim().endsWith('data: [DONE]') });
  check(http.get(url('/v1/models'), headers()), { 'models': (answer) => answer.status === 200 });
}
