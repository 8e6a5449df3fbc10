// Rates from counters: the difference between two snapshots, smoothed over a few seconds.

const SMOOTHING_MS = 4000;
// Two snapshots closer than this say little about a rate.
const SHORTEST_MS = 500;

class Rate {
  value = null;
  #last = null;
  #at = 0;

  // `at` is the gateway's clock. A counter that goes back is a new process: start again.
  see(total, at) {
    const passed = at - this.#at;
    if (this.#last !== null && total >= this.#last && passed < SHORTEST_MS) return this.value;
    if (this.#last !== null && total >= this.#last) {
      const now = ((total - this.#last) * 1000) / passed;
      const weight = this.value === null ? 1 : 1 - Math.exp(-passed / SMOOTHING_MS);
      this.value = (this.value ?? 0) + weight * (now - (this.value ?? 0));
    } else {
      this.value = null;
    }
    this.#last = total;
    this.#at = at;
    return this.value;
  }
}

class Rates {
  #rates = new Map();
  #process = null;

  // Another process counts from zero, so nothing of the old one may be compared with it.
  begin(status) {
    const process = `${status.pid}/${status.started}`;
    if (process !== this.#process) this.#rates.clear();
    this.#process = process;
  }

  see(key, total, at) {
    let rate = this.#rates.get(key);
    if (!rate) {
      rate = new Rate();
      this.#rates.set(key, rate);
    }
    return rate.see(total, at);
  }
}

// How much a counter grew within the last minute.
class LastMinute {
  #seen = [];

  see(total, at) {
    if (this.#seen.length && (total < this.#seen.at(-1).total || at < this.#seen.at(-1).at)) this.#seen = [];
    this.#seen.push({ total, at });
    while (this.#seen.length > 1 && this.#seen[0].at < at - 60_000) this.#seen.shift();
    return total - this.#seen[0].total;
  }
}
