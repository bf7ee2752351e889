//go:build !race

package park_test

const racing = false
