// Package countersign is the root of the module and empty: it holds the tests
// that look at the whole house, who may import whom and whether each claim in
// docs/security.md links to a test.
package countersign
