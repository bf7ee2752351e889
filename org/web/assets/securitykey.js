// Asking a security key, on behalf of the sign-in page.
//
// The org says what is to be signed, the browser asks the key and signs along
// for which page; what comes back goes to the org as it is.

/** Whether this browser can ask security keys at all. */
export const browserHasKeys = () => Boolean(window.PublicKeyCredential && navigator.credentials);

/** Asks one of the person's keys and returns what the org wants to see of its answer. */
export async function askKey(data, keys, signal) {
  const { response } = await navigator.credentials.get({
    signal,
    publicKey: { challenge: bytes(data.challenge), rpId: data.rpId, userVerification: data.userVerification, allowCredentials: listed(keys) },
  });
  return {
    clientData: text(response.clientDataJSON),
    authenticatorData: text(response.authenticatorData),
    signatureData: text(response.signature),
    ...(response.userHandle?.byteLength && { userHandle: text(response.userHandle) }),
  };
}

/** Has a key make a credential and returns what the org wants to see of it. */
export async function makeKey(data, keys, signal) {
  const { excludeCredentials, ...options } = data;
  const made = await navigator.credentials.create({
    signal,
    publicKey: { ...options, challenge: bytes(data.challenge), user: { ...data.user, id: bytes(data.user.id) }, excludeCredentials: listed(keys) },
  });
  return {
    clientData: text(made.response.clientDataJSON),
    attestation: text(made.response.attestationObject),
    transports: JSON.stringify(made.response.getTransports?.() ?? []),
    clientExtensions: JSON.stringify(made.getClientExtensionResults?.() ?? {}),
  };
}

function listed(keys) {
  return keys.map(({ credentialId, transports }) => ({ type: "public-key", id: bytes(credentialId), ...(transports?.length && { transports }) }));
}

/** base64url as bytes, and back. */
function bytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

function text(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
