// Asks the authenticator agent on this device, over loopback, in the same
// steps as the Okta Sign-In Widget: a probe of each address in turn, and the
// challenge to the first one that answers. Knows nothing of the page.

const CHALLENGE_TIMEOUT = 300000; // ms; the agent may hold the call open while it asks
const PERMISSION_PATIENCE = 20000; // while the browser asks for its permission
const ASKS_AFTER = 700; // an agent that need not ask is quicker than this

/**
 * Hands the challenge to an agent. Returns { answered: true } when one took
 * it, { status } when one refused it, and {} when none is there.
 *
 * signal stops it. silent means that the person has not done anything yet.
 * tell is called with "looking", "permission" (the browser will ask first) or
 * "asking" (the agent asks the person).
 */
export async function askAgent(challenge, { signal, silent, tell }) {
  tell("looking");
  const patience = await probePatience(challenge, silent, tell);
  for (const base of [challenge.httpsDomain, challenge.domain].filter(Boolean)) {
    for (const port of challenge.ports ?? []) {
      if (signal.aborted) return {};
      const probe = await call(`${base}:${port}/probe`, signal, patience);
      if (!probe?.ok) continue;
      const asks = setTimeout(() => tell("asking"), ASKS_AFTER);
      const body = JSON.stringify({ challengeRequest: challenge.challengeRequest });
      const answer = await call(`${base}:${port}/challenge`, signal, CHALLENGE_TIMEOUT, { method: "POST", body });
      clearTimeout(asks);
      if (answer?.ok) return { answered: true };
      // A 503 comes from another user's agent on a shared machine: the next port may be ours.
      if (answer && answer.status !== 503) return { status: answer.status };
      tell("looking");
    }
  }
  return {};
}

/**
 * How long a probe may take. A browser that first asks whether the page may
 * reach this device uses up the time meant for the agent, so the person gets
 * enough of it. Pages of localhost are never asked about.
 */
async function probePatience(challenge, silent, tell) {
  const usual = challenge.probeTimeoutMillis || 100;
  if (silent || /^(localhost|127\.)/.test(location.hostname) || (await loopbackPermission()) !== "prompt") return usual;
  tell("permission");
  return Math.max(usual, PERMISSION_PATIENCE);
}

/** What the browser's permission for loopback is: granted, denied, prompt, or unknown. */
export async function loopbackPermission() {
  for (const name of ["loopback-network", "local-network-access"]) {
    try {
      return (await navigator.permissions.query({ name })).state;
    } catch {
      // a name this browser does not know
    }
  }
  return "unknown";
}

/** One call, without credentials; null when there was no answer that may be read. */
async function call(url, signal, timeout, options = {}) {
  try {
    return await fetch(url, {
      ...options,
      headers: { "Content-Type": "application/json" },
      credentials: "omit",
      cache: "no-store",
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
    });
  } catch {
    return null;
  }
}
