// Package api tests the API of an emulated board in service against clients, scanners and
// verifiers that others have written, against hostile clients, and under load. All tests
// share one board; what the page docs/redfish.md and docs/policy.md publish is what they
// hold it to.
package api
