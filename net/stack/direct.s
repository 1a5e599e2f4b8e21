// This file is empty: with one in assembly a package may have functions without a body,
// such as those of direct_unsafe.go.
