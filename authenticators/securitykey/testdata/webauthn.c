// A webauthn.dll for tests, for Wine, which has none. It writes down what it is
// asked, in the folder C:\webauthn, and answers what lies there: lines of a name
// and a value. Its structures are those of the compiler's own header, which is
// nobody's copy of ours.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
#include <webauthn.h>

#define FOLDER "C:\\webauthn\\"

// What version 6 of the options and version 3 of an assertion append, which the
// header does not have yet.
struct salt { DWORD cbFirst; PBYTE pbFirst; DWORD cbSecond; PBYTE pbSecond; };
struct salts { struct salt *all; DWORD n; void *each; };
struct options6 { WEBAUTHN_AUTHENTICATOR_GET_ASSERTION_OPTIONS five; struct salts *salts; BOOL private; };
struct assertion3 { WEBAUTHN_ASSERTION two; struct salt *secret; };

static void note(const char *format, ...) {
	FILE *f = fopen(FOLDER "asked", "a");
	if (f == NULL) return;
	va_list args;
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fputs("\n", f);
	fclose(f);
}

static void note_text(const char *name, const WCHAR *s) {
	char b[1024] = "(none)";
	if (s != NULL) WideCharToMultiByte(CP_UTF8, 0, s, -1, b, sizeof b, NULL, NULL);
	note("%s %s", name, b);
}

static void note_bytes(const char *name, const BYTE *p, DWORD n) {
	char b[4096];
	for (DWORD i = 0; i < n && i < 2000; i++) sprintf(b + 2 * i, "%02x", p[i]);
	b[2 * n] = 0;
	note("%s %s", name, b);
}

// answer gives a value, NULL if there is none.
static char *answer(const char *name) {
	static char line[1 << 17];
	FILE *f = fopen(FOLDER "answer", "r");
	if (f == NULL) return NULL;
	while (fgets(line, sizeof line, f) != NULL) {
		char *value = strchr(line, ' ');
		if (value == NULL) continue;
		*value++ = 0;
		value[strcspn(value, "\r\n")] = 0;
		if (strcmp(line, name) == 0) {
			fclose(f);
			return value;
		}
	}
	fclose(f);
	return NULL;
}

static DWORD answer_number(const char *name) {
	char *s = answer(name);
	return s == NULL ? 0 : strtoul(s, NULL, 0);
}

static BYTE *answer_bytes(const char *name, DWORD *n) {
	char *s = answer(name);
	*n = s == NULL ? 0 : strlen(s) / 2;
	if (s == NULL) return NULL;
	BYTE *p = malloc(*n + 1);
	for (DWORD i = 0; i < *n; i++) {
		unsigned x;
		sscanf(s + 2 * i, "%2x", &x);
		p[i] = x;
	}
	return p;
}

// forget spoils what is freed: who has not copied it notices.
static void forget(BYTE *p, DWORD n) {
	if (p == NULL) return;
	memset(p, 0xdd, n);
	free(p);
}

static HANDLE cancelled;
static const GUID the_id = {0x01020304, 0x0506, 0x0708, {9, 10, 11, 12, 13, 14, 15, 16}};

BOOL WINAPI DllMain(HINSTANCE self, DWORD why, void *reserved) {
	if (why == DLL_PROCESS_ATTACH) cancelled = CreateEventW(NULL, TRUE, FALSE, NULL);
	return TRUE;
}

DWORD WINAPI WebAuthNGetApiVersionNumber(void) { return answer_number("version"); }

HRESULT WINAPI WebAuthNGetCancellationId(GUID *id) {
	if (answer("uncancellable") != NULL) return E_NOTIMPL;
	*id = the_id;
	return S_OK;
}

HRESULT WINAPI WebAuthNCancelCurrentOperation(const GUID *id) {
	if (!IsEqualGUID(id, &the_id)) return NTE_NOT_FOUND;
	if (WaitForSingleObject(cancelled, 0) != WAIT_OBJECT_0) note("cancelled");
	SetEvent(cancelled);
	return S_OK;
}

PCWSTR WINAPI WebAuthNGetErrorName(HRESULT hr) { return hr == NTE_EXISTS ? L"InvalidStateError" : L"UnknownError"; }

// waited is how an operation ends that waits for a person, if this one does.
static HRESULT waited(DWORD milliseconds) {
	HRESULT hr = answer_number("hresult");
	if (answer("waits") == NULL) return hr;
	note("waiting");
	if (WaitForSingleObject(cancelled, milliseconds) == WAIT_OBJECT_0) return NTE_USER_CANCELLED;
	return HRESULT_FROM_WIN32(ERROR_TIMEOUT);
}

static void note_common(HWND window, PCWEBAUTHN_CLIENT_DATA c) {
	note("window %s", IsWindow(window) ? "yes" : "no");
	note("client data %lu %.*s", c->dwVersion, (int)c->cbClientDataJSON, c->pbClientDataJSON);
	note_text("hash", c->pwszHashAlgId);
}

static void note_list(const char *name, PWEBAUTHN_CREDENTIAL_LIST list) {
	for (DWORD i = 0; list != NULL && i < list->cCredentials; i++) {
		PWEBAUTHN_CREDENTIAL_EX c = list->ppCredentials[i];
		note_bytes(name, c->pbId, c->cbId);
		if (c->dwVersion != 1 || c->dwTransports != 0 || wcscmp(c->pwszCredentialType, L"public-key") != 0) note("odd %s", name);
	}
}

static const char *note_id(const GUID *id) { return id != NULL && IsEqualGUID(id, &the_id) ? "yes" : "no"; }

HRESULT WINAPI WebAuthNAuthenticatorMakeCredential(HWND window, PCWEBAUTHN_RP_ENTITY_INFORMATION rp, PCWEBAUTHN_USER_ENTITY_INFORMATION user,
	PCWEBAUTHN_COSE_CREDENTIAL_PARAMETERS all, PCWEBAUTHN_CLIENT_DATA data, PCWEBAUTHN_AUTHENTICATOR_MAKE_CREDENTIAL_OPTIONS o,
	PWEBAUTHN_CREDENTIAL_ATTESTATION *out) {
	note("make credential");
	note_common(window, data);
	note("versions %lu %lu %lu", rp->dwVersion, user->dwVersion, o->dwVersion);
	note_text("rp", rp->pwszId);
	note_text("rp name", rp->pwszName);
	note_text("rp icon", rp->pwszIcon);
	note_bytes("user id", user->pbId, user->cbId);
	note_text("user", user->pwszName);
	note_text("display name", user->pwszDisplayName);
	note_text("icon", user->pwszIcon);
	for (DWORD i = 0; i < all->cCredentialParameters; i++) {
		PWEBAUTHN_COSE_CREDENTIAL_PARAMETER p = &all->pCredentialParameters[i];
		note("algorithm %ld", p->lAlg);
		if (p->dwVersion != 1 || wcscmp(p->pwszCredentialType, WEBAUTHN_CREDENTIAL_TYPE_PUBLIC_KEY) != 0) note("odd algorithm");
	}
	note("timeout %lu", o->dwTimeoutMilliseconds);
	note("attachment %lu resident %d verification %lu attestation %lu flags %lu", o->dwAuthenticatorAttachment, o->bRequireResidentKey,
		o->dwUserVerificationRequirement, o->dwAttestationConveyancePreference, o->dwFlags);
	note("old list %lu cancellation %s", o->CredentialList.cCredentials, note_id(o->pCancellationId));
	note_list("exclude", o->pExcludeCredentialList);
	for (DWORD i = 0; i < o->Extensions.cExtensions; i++) {
		PWEBAUTHN_EXTENSION e = &o->Extensions.pExtensions[i];
		note_text("extension", e->pwszExtensionIdentifier);
		note("of %lu: %d", e->cbExtension, *(BOOL *)e->pvExtension);
	}
	*out = NULL;
	HRESULT hr = waited(o->dwTimeoutMilliseconds);
	if (FAILED(hr) || answer("nothing") != NULL) return hr;
	PWEBAUTHN_CREDENTIAL_ATTESTATION a = calloc(1, sizeof *a);
	a->dwVersion = WEBAUTHN_CREDENTIAL_ATTESTATION_CURRENT_VERSION;
	a->pwszFormatType = L"packed";
	a->pbAttestationObject = answer_bytes("object", &a->cbAttestationObject);
	a->pbCredentialId = answer_bytes("id", &a->cbCredentialId);
	if (answer("endless") != NULL) a->cbAttestationObject = 0x7fffffff;
	*out = a;
	return hr;
}

void WINAPI WebAuthNFreeCredentialAttestation(PWEBAUTHN_CREDENTIAL_ATTESTATION a) {
	if (answer("endless") == NULL) forget(a->pbAttestationObject, a->cbAttestationObject);
	forget(a->pbCredentialId, a->cbCredentialId);
	forget((BYTE *)a, sizeof *a);
	note("freed the attestation");
}

HRESULT WINAPI WebAuthNAuthenticatorGetAssertion(HWND window, LPCWSTR rp, PCWEBAUTHN_CLIENT_DATA data,
	PCWEBAUTHN_AUTHENTICATOR_GET_ASSERTION_OPTIONS o, PWEBAUTHN_ASSERTION *out) {
	note("get assertion");
	note_common(window, data);
	note("version %lu", o->dwVersion);
	note_text("rp", rp);
	note("timeout %lu", o->dwTimeoutMilliseconds);
	note("attachment %lu verification %lu flags %lx", o->dwAuthenticatorAttachment, o->dwUserVerificationRequirement, o->dwFlags);
	note("old list %lu extensions %lu app id %s cancellation %s", o->CredentialList.cCredentials, o->Extensions.cExtensions,
		o->pwszU2fAppId == NULL && o->pbU2fAppId == NULL ? "no" : "yes", note_id(o->pCancellationId));
	note_list("allow", o->pAllowCredentialList);
	if (o->dwVersion >= 6) {
		const struct options6 *six = (const struct options6 *)o;
		note("blob %lu private %d each %lu", o->dwCredLargeBlobOperation, six->private, six->salts->n);
		note_bytes("salt", six->salts->all->pbFirst, six->salts->all->cbFirst);
		note_bytes("second salt", six->salts->all->pbSecond, six->salts->all->cbSecond);
	}
	*out = NULL;
	HRESULT hr = waited(o->dwTimeoutMilliseconds);
	if (FAILED(hr) || answer("nothing") != NULL) return hr;
	struct assertion3 *a = calloc(1, sizeof *a);
	a->two.dwVersion = 3;
	a->two.pbAuthenticatorData = answer_bytes("data", &a->two.cbAuthenticatorData);
	a->two.pbSignature = answer_bytes("signature", &a->two.cbSignature);
	a->two.Credential.dwVersion = 1;
	a->two.Credential.pbId = answer_bytes("id", &a->two.Credential.cbId);
	a->two.Credential.pwszCredentialType = L"public-key";
	a->two.pbUserId = answer_bytes("user", &a->two.cbUserId);
	if (o->dwVersion >= 6) {
		a->secret = calloc(1, sizeof *a->secret);
		a->secret->pbFirst = answer_bytes("secret", &a->secret->cbFirst);
		a->secret->pbSecond = answer_bytes("second-secret", &a->secret->cbSecond);
	}
	*out = &a->two;
	return hr;
}

void WINAPI WebAuthNFreeAssertion(PWEBAUTHN_ASSERTION two) {
	struct assertion3 *a = (struct assertion3 *)two;
	forget(two->pbAuthenticatorData, two->cbAuthenticatorData);
	forget(two->pbSignature, two->cbSignature);
	forget(two->Credential.pbId, two->Credential.cbId);
	forget(two->pbUserId, two->cbUserId);
	if (a->secret != NULL) {
		forget(a->secret->pbFirst, a->secret->cbFirst);
		forget(a->secret->pbSecond, a->secret->cbSecond);
		forget((BYTE *)a->secret, sizeof *a->secret);
	}
	forget((BYTE *)a, sizeof *a);
	note("freed the assertion");
}
