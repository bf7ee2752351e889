// Package harness runs the whole product the way a person meets it: the real
// programs as processes of their own, the published sign-in widget, and a
// real headless browser in front of them.
//
// A [Stage] owns everything that was started and takes it down again. Nothing
// in here sleeps: every wait is for a condition and has a deadline. The tests
// of this module, and the demo and run drivers, are built from it; it never
// imports the product's own server or agent, only the wire types.
//
// What can be set from outside:
//
//	COUNTERSIGN_BIN      folder of the programs to run; else see FindPrograms
//	CHROMIUM             the browser to drive; else the first one in PATH
//	UPDATE_SCREENSHOTS   when set, the tests write docs/screenshots anew
package harness
