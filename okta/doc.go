// Package okta holds what travels on the wire between an authenticator agent
// and an Okta-compatible org: the claims of challenges and of their answers,
// the documents of discovery and enrolment, and the error object with its
// codes.
//
// The agent and the reference org both speak through these types; the package
// knows neither of them. It only describes messages: signatures live in
// okta/jose, signing keys of an org in okta/keys, HTTP in okta/client.
//
// Extensions of ours to the published protocol are marked "extension" in the
// comment of the member and listed in docs/extensions.md.
package okta
