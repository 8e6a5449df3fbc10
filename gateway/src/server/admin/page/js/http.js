// What requests to the gateway have in common: their errors, as sentences.

// The gateway doesn't know who asks.
class Refused extends Error {}

// The person must sign in afresh first.
class NotFresh extends Error {}

// A refusal's message, and its code if it has one.
async function problemOf(response) {
  const text = await response.text().catch(() => '');
  try {
    const { message, code = null } = JSON.parse(text).error;
    return { message, code };
  } catch {
    return { message: `The gateway answered ${response.status}${text && text.length < 300 ? `: ${text.trim()}` : ''}`, code: null };
  }
}

async function messageOf(response) {
  return (await problemOf(response)).message;
}

// Browsers' own messages for a failed connection differ and explain little.
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    throw new Error(error.name === 'AbortError' ? 'The gateway has gone silent.' : "The gateway can't be reached.");
  }
}
