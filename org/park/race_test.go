//go:build race

package park_test

// racing says that the race detector is on: memory then says nothing.
const racing = true
