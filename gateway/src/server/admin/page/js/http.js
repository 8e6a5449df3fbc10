// What requests to the gateway have in common: their errors, as sentences.

// The gateway doesn't know who asks.
class Refused extends Error {}

async function messageOf(response) {
  const text = await response.text().catch(() => '');
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `The gateway answered ${response.status}${text && text.length < 300 ? `: ${text.trim()}` : ''}`;
  }
}

// Browsers' own messages for a failed connection differ and explain little.
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    throw new Error(error.name === 'AbortError' ? 'The gateway has gone silent.' : "The gateway can't be reached.");
  }
}
