// More than the PTU can take, in an open model: callers don't wait for each other, so a gateway
// that falls behind shows it. While any tier has room, not a single 429 may reach a caller.
//   k6 run -e URL=http://127.0.0.1:8080 [-e KEY=…] [-e MODEL=gpt-4o] [-e RATE=60] spillover.js

import { check } from 'k6';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { body, headers, url } from './common.js';

const peak = Number(__ENV.RATE || 60);
const visible429 = new Counter('visible_429');
const servedFirst = new Counter('served_by_first_tier');
const servedLower = new Counter('served_by_lower_tiers');

export const options = {
  scenarios: {
    day: {
      executor: 'ramping-arrival-rate',
      startRate: 2,
      timeUnit: '1s',
      preAllocatedVUs: 200,
      maxVUs: 1000,
      stages: [
        { target: 2, duration: '5s' },
        { target: peak, duration: '5s' },
        { target: peak, duration: '15s' },
        { target: 2, duration: '5s' },
      ],
    },
  },
  thresholds: {
    visible_429: ['count==0'],
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    served_by_first_tier: ['count>0'],
    served_by_lower_tiers: ['count>0'],
  },
};

export default function () {
  const answer = http.post(url('/v1/chat/completions'), body(Math.random() < 0.5), headers());
  visible429.add(answer.status === 429 ? 1 : 0);
  check(answer, { answered: (a) => a.status === 200 });
  const backend = answer.headers['X-Spillway-Backend'] || '';
  (backend === (__ENV.FIRST || 'ptu') ? servedFirst : servedLower).add(1);
}

export function teardown() {
  if (!__ENV.ADMIN) return;
  const lines = http.get(`${__ENV.ADMIN}/metrics`).body.split('\n');
  console.log(lines.filter((line) => line.startsWith('spillway_tier_served_total') || (line.includes('outcome="throttled"') && !line.endsWith(' 0'))).join('\n'));
}
