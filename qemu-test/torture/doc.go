// Package torture holds the tests that lean on memory: all of it given out and
// taken back, pages that come and go beneath running goroutines, collections that
// never end. They use plain Go and Linux's system calls; on the board they also
// read the kernel's own counters.
package torture
