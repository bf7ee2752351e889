//go:build !race

package org_test

const racing = false
