// Package ptytest gives tests a terminal: a pseudo-terminal with the test at the
// person's end, and what a person would see there.
package ptytest
