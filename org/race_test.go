//go:build race

package org_test

// racing says that the race detector is on: memory and time then say little.
const racing = true
